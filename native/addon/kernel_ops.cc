// The ops of NativeKernels.run(): the arguments that each reads and the kernel that it calls. The fields are
// those of lib/kernels/native.ts.
#include <algorithm>
#include <map>

#include "addon/convert.h"
#include "addon/kernel_batch.h"
#include "addon/kernel_call.h"
#include "core/error.h"
#include "core/rope_frequencies.h"

namespace cria {
namespace {

constexpr std::int64_t kMax = std::int64_t{1} << 46;
constexpr std::int64_t kMaxRows = INT32_MAX;

void require(bool holds, const char* name, const char* expected) {
  if (!holds) throw_argument(name, expected);
}

/// A part of a batch of which only the token count matters.
BatchPart token_count(std::int64_t first, std::int32_t n) {
  BatchPart part;
  part.first = first;
  part.batch.n_tokens = n;
  return part;
}

PassLimits attention_limits(const Operand& kv, const AttentionShape& shape, const KernelBatch& batch,
                            std::int64_t matrix_cols) {
  PassLimits limits = plain_limits(matrix_cols);
  limits.shape = shape;
  limits.kv_dtype = kv.tensor->dtype;
  limits.max_sequences = std::max(1, batch.n_sequences());
  limits.max_pages = std::max(1, batch.n_pages());
  return limits;
}

void rms_norm(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMax), cols = c.integer("cols", 1, kMaxRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.input("x", rows * cols), &weight = c.input("weight", cols),
          &out = c.output("out", DType::f32, rows * cols, true);
  require(out.tensor != weight.tensor, "out", "a tensor that is not the weight");
  c.run = [=, &x, &weight, &out](Backend& b) {
    b.elementary().rms_norm({rows, cols, x.f32(), weight.f32(), eps, out.f32()});
  };
}

void add_rms_norm(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMax), cols = c.integer("cols", 1, kMaxRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.in_out("x", rows * cols), &y = c.input("y", rows * cols), &weight = c.input("weight", cols),
          &out = c.output("out", DType::f32, rows * cols);
  require(y.tensor != x.tensor && weight.tensor != x.tensor, "x", "a tensor that is not another input");
  c.run = [=, &x, &y, &weight, &out](Backend& b) {
    b.elementary().add_rms_norm({rows, cols, x.f32(), y.f32(), weight.f32(), eps, out.f32()});
  };
}

void rope(KernelCall& c) {
  RopeArgs args{};
  args.n_heads = static_cast<std::int32_t>(c.integer("heads", 1, kMaxRows));
  args.head_dim = static_cast<std::int32_t>(c.integer("headDim", 2, 65536));
  args.half_layout = c.flag("halfLayout");
  RopeTable& table = *c.keep<RopeTable>(c, c.integers("positions"), args.head_dim);
  args.rope_dim = table.rope_dim();
  args.n_tokens = table.n_tokens();
  const std::int64_t n = args.n_tokens * args.n_heads * args.head_dim;
  Operand &x = c.input("x", n), &out = c.output("out", DType::f32, n, true);
  c.before = [&table](Backend& b) { table.to_device(b.elementary()); };
  c.run = [=, &x, &out, &table](Backend& b) mutable {
    args.x = x.f32();
    args.cos = table.cos();
    args.sin = table.sin();
    args.out = out.f32();
    b.elementary().rope(args);
  };
}

void matmul(KernelCall& c) {
  const std::int64_t tokens = c.integer("tokens", 0, kMaxRows), rows = c.integer("rows", 1, kMaxRows),
                     cols = c.integer("cols", 1, kMaxRows);
  Operand &x = c.input("x", tokens * cols), &weight = c.matrix("weight", rows, cols);
  const WeightGroup& weights = c.weights({&weight});
  const bool accumulate = c.has("addTo");
  Operand& y = accumulate ? c.in_out("addTo", tokens * rows) : c.output("out", DType::f32, tokens * rows);
  require(y.tensor != x.tensor && y.tensor != weight.tensor, "addTo", "a tensor that is not another input");
  c.run = [=, &x, &weights, &y](Backend& b) {
    if (tokens > 0) b.elementary().matmul({tokens, weights[0], x.f32(), y.f32(), accumulate});
  };
}

void silu_mul(KernelCall& c) {
  const std::int64_t n = c.integer("n", 0, kMax);
  Operand &gate = c.input("gate", n), &up = c.input("up", n), &out = c.output("out", DType::f32, n, true);
  c.run = [=, &gate, &up, &out](Backend& b) {
    b.elementary().silu_mul({n, gate.f32(), up.f32(), out.f32()});
  };
}

void softmax(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMax), cols = c.integer("cols", 1, kMaxRows);
  Operand &x = c.input("x", rows * cols), &out = c.output("out", DType::f32, rows * cols, true);
  c.run = [=, &x, &out](Backend& b) { b.elementary().softmax({rows, cols, x.f32(), out.f32()}); };
}

void swiglu(KernelCall& c) {
  const std::int64_t tokens = c.integer("tokens", 0, kMaxRows), hidden = c.integer("hidden", 1, kMaxRows),
                     ffn = c.integer("ffnHidden", 1, kMaxRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.input("x", tokens * hidden), &norm = c.input("norm", hidden),
          &gate = c.matrix("gate", ffn, hidden), &up = c.matrix("up", ffn, hidden),
          &out = c.output("out", DType::f32, tokens * ffn);
  const WeightGroup& weights = c.weights({&gate, &up}, true);
  PassLimits limits = plain_limits(hidden);
  limits.up_rows = ffn;
  c.run_timed = [=, &x, &norm, &weights, &out](Backend& b, const Timed& timed) {
    LayerWeights layer;
    layer.ffn_norm = {norm.f32(), DType::f32, 1, hidden};
    layer.gate = weights[0];
    layer.up = weights[1];
    run_in_passes(b, timed, limits, tokens, token_count, [&](const BatchPart& part) {
      b.ops().swiglu(
          {part.batch.n_tokens, &layer, eps, x.f32() + part.first * hidden, out.f32() + part.first * ffn});
    });
  };
}

void attention_input(KernelCall& c) {
  const std::int64_t hidden = c.integer("hidden", 1, kMaxRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand& kv = c.kv_cache("kv");
  AttentionShape shape = kv_shape(kv, static_cast<std::int32_t>(c.integer("heads", 1, 65536)));
  require(shape.n_heads % shape.n_kv_heads == 0, "heads", "a multiple of the cache's KV heads");
  require(shape.head_dim % 2 == 0, "kv", "an even head size");
  shape.rope_half_layout = c.flag("halfLayout");
  const std::int64_t q_dim = static_cast<std::int64_t>(shape.n_heads) * shape.head_dim,
                     kv_dim = static_cast<std::int64_t>(shape.n_kv_heads) * shape.head_dim;
  KernelBatch& batch = *c.keep<KernelBatch>(c, kv.tensor->shape);
  RopeTable& table = *c.keep<RopeTable>(c, batch.positions(), shape.head_dim);
  shape.rope_dim = table.rope_dim();
  const std::int64_t n = batch.n_tokens();
  Operand &x = c.input("x", n * hidden), &norm = c.input("norm", hidden),
          &query = c.matrix("query", q_dim, hidden), &key = c.matrix("key", kv_dim, hidden),
          &value = c.matrix("value", kv_dim, hidden), &out = c.output("out", DType::f32, n * q_dim);
  const WeightGroup& weights = c.weights({&query, &key, &value});
  const PassLimits limits = attention_limits(kv, shape, batch, hidden);
  c.run_timed = [=, &x, &norm, &weights, &kv, &out, &batch, &table](Backend& b, const Timed& timed) {
    LayerWeights layer;
    layer.attention_norm = {norm.f32(), DType::f32, 1, hidden};
    layer.query = weights[0];
    layer.key = weights[1];
    layer.value = weights[2];
    run_in_passes(
        b, timed, limits, n,
        [&](std::int64_t first, std::int32_t count) { return batch.part(first, count, &table); },
        [&](const BatchPart& part) {
          b.ops().attention_input({&part.batch, &layer, shape, eps, x.f32() + part.first * hidden,
                                   kv_layer(kv), out.f32() + part.first * q_dim});
        });
  };
}

void paged_attention(KernelCall& c) {
  Operand& kv = c.kv_cache("kv", true);
  const AttentionShape shape = kv_shape(kv, static_cast<std::int32_t>(c.integer("heads", 1, 65536)));
  require(shape.n_heads % shape.n_kv_heads == 0, "heads", "a multiple of the cache's KV heads");
  KernelBatch& batch = *c.keep<KernelBatch>(c, kv.tensor->shape);
  const std::int64_t n = batch.n_tokens(), width = static_cast<std::int64_t>(shape.n_heads) * shape.head_dim;
  Operand &q = c.input("q", n * width), &out = c.output("out", DType::f32, n * width);
  const PassLimits limits = attention_limits(kv, shape, batch, 1);
  c.run_timed = [=, &q, &kv, &out, &batch](Backend& b, const Timed& timed) {
    run_in_passes(
        b, timed, limits, n,
        [&](std::int64_t first, std::int32_t count) { return batch.part(first, count, nullptr); },
        [&](const BatchPart& part) {
          b.ops().paged_attention({&part.batch, shape, q.f32() + part.first * width, kv_layer(kv),
                                   out.f32() + part.first * width});
        });
  };
}

void embed(KernelCall& c) {
  const std::int64_t vocab = c.integer("vocab", 1, kMaxRows), cols = c.integer("cols", 1, kMaxRows);
  Operand& table = c.matrix("table", vocab, cols);
  const WeightGroup& weights = c.weights({&table});
  std::vector<std::uint32_t>& ids = *c.keep<std::vector<std::uint32_t>>(c.ids("ids", vocab));
  const auto n = static_cast<std::int64_t>(ids.size());
  Operand& out = c.output("out", DType::f32, n * cols);
  c.run_timed = [=, &weights, &ids, &out](Backend& b, const Timed& timed) {
    run_in_passes(
        b, timed, plain_limits(cols), n,
        [&](std::int64_t first, std::int32_t count) {
          BatchPart part = token_count(first, count);
          part.batch.tokens = ids.data() + first;
          return part;
        },
        [&](const BatchPart& part) {
          b.ops().embed({&part.batch, weights[0], out.f32() + part.first * cols});
        });
  };
}

void quantize(KernelCall& c) {
  const DType dtype = c.dtype("dtype");
  const std::int64_t rows = c.integer("rows", 0, kMax), cols = c.integer("cols", 1, kMaxRows);
  Operand &x = c.input("x", rows * cols), &out = c.output("out", dtype, rows * cols);
  require(cols % traits_of(dtype).block_size == 0, "cols", "a multiple of the block size");
  c.run = [=, &x, &out](Backend& b) {
    b.elementary().quantize({dtype, rows, cols, x.f32(), out.tensor->memory.data});
  };
}

void dequantize(KernelCall& c) {
  Operand& x = c.matrix("x", -1, -1);
  Operand& out = c.output("out", DType::f32, x.tensor->elements());
  c.run = [&x, &out](Backend& b) {
    const Weight w = x.weight();
    if (w.rows > 0) b.elementary().dequantize({w.dtype, w.rows, w.cols, w.data, out.f32()});
  };
}

void kv_write(KernelCall& c) {
  Operand& kv = c.kv_cache("kv");
  const std::int64_t n = kv.tensor->elements() / 2;
  Operand &k = c.input("k", n), &v = c.input("v", n);
  c.run = [&k, &v, &kv](Backend& b) {
    const AttentionShape shape = kv_shape(kv, static_cast<std::int32_t>(kv.tensor->shape[2]));
    b.elementary().write_kv(
        {shape, kv_layer(kv), static_cast<std::int32_t>(kv.tensor->shape[1]), k.f32(), v.f32()});
  };
}

void kv_read(KernelCall& c) {
  Operand& kv = c.kv_cache("kv");
  const std::int64_t n = kv.tensor->elements() / 2;
  Operand &k = c.output("k", DType::f32, n), &v = c.output("v", DType::f32, n);
  c.run = [&k, &v, &kv](Backend& b) {
    const AttentionShape shape = kv_shape(kv, static_cast<std::int32_t>(kv.tensor->shape[2]));
    b.elementary().read_kv(
        {shape, kv_layer(kv), static_cast<std::int32_t>(kv.tensor->shape[1]), k.f32(), v.f32()});
  };
}

/// A tensor of zeros.
void allocate(KernelCall& c) {
  c.output("out", c.dtype("dtype"), c.integer("elements", 0, kMax));
  c.run = [](Backend&) {};
}

/// A host tensor, copied to the device.
void upload(KernelCall& c) {
  Operand& x = c.matrix("x", -1, -1);
  require(x.on_host, "x", "an array");
  x.is_result = true;
  x.on_host = false;
  c.run = [](Backend&) {};
}

/// A device tensor, copied to the host. Always a copy: later calls may write x before JavaScript has the
/// result.
void download(KernelCall& c) {
  Operand& x = c.matrix("x", -1, -1);
  Operand& out = c.output("out", x.tensor->dtype, x.tensor->elements());
  require(!x.on_host && out.on_host, "out", "an array, and x resident");
  out.allocated_by_run = true;
  c.run = [&x, &out](Backend& b) {
    TensorMemory host = b.elementary().to_host(x.tensor->memory);
    if (host.data == x.tensor->memory.data) {
      host = allocate_host(host.bytes);
      std::copy_n(x.tensor->memory.data, host.bytes, host.data);
    }
    out.tensor->memory = std::move(host);
  };
}

const std::map<std::string, void (*)(KernelCall&)>& table() {
  static const auto* ops = new std::map<std::string, void (*)(KernelCall&)>{
      {"rmsNorm", rms_norm},
      {"addRmsNorm", add_rms_norm},
      {"rope", rope},
      {"matmul", matmul},
      {"siluMul", silu_mul},
      {"softmax", softmax},
      {"swiglu", swiglu},
      {"attentionInput", attention_input},
      {"pagedAttention", paged_attention},
      {"embed", embed},
      {"quantize", quantize},
      {"dequantize", dequantize},
      {"sample", sample_kernel},
      {"kvWrite", kv_write},
      {"kvRead", kv_read},
      {"upload", upload},
      {"download", download},
      {"allocate", allocate},
  };  // never destroyed
  return *ops;
}

}  // namespace

void parse_kernel(const std::string& op, KernelCall& call) {
  const auto at = table().find(op);
  if (at == table().end())
    throw Error(ErrorCode::invalid_argument, "op: expected the name of a kernel, found '" + op + "'",
                {{"name", "op"}, {"found", op}});
  at->second(call);
}

}  // namespace cria
