// The ops of NativeKernels.run(): which arguments each reads, and what it calls. lib/kernels/native.ts names
// the same fields.
#include <algorithm>
#include <map>

#include "addon/convert.h"
#include "addon/kernel_batch.h"
#include "addon/kernel_call.h"
#include "core/error.h"
#include "core/rope_frequencies.h"

namespace cria {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 46;
constexpr std::int64_t kMostRows = INT32_MAX;

void require(bool holds, const char* name, const char* expected) {
  if (!holds) throw_argument(name, expected);
}

void rms_norm(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMost), cols = c.integer("cols", 1, kMostRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.input("x", rows * cols), &weight = c.input("weight", cols),
          &out = c.output("out", DType::f32, rows * cols, true);
  require(out.tensor != weight.tensor, "out", "a tensor that is not the weight");
  c.run = [=, &x, &weight, &out](Backend& b) {
    b.elementary().rms_norm({rows, cols, x.f32(), weight.f32(), eps, out.f32()});
  };
}

void add_rms_norm(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMost), cols = c.integer("cols", 1, kMostRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.in_out("x", rows * cols), &y = c.input("y", rows * cols), &weight = c.input("weight", cols),
          &out = c.output("out", DType::f32, rows * cols);
  require(y.tensor != x.tensor && weight.tensor != x.tensor, "x", "a tensor that is no other input");
  c.run = [=, &x, &y, &weight, &out](Backend& b) {
    b.elementary().add_rms_norm({rows, cols, x.f32(), y.f32(), weight.f32(), eps, out.f32()});
  };
}

void rope(KernelCall& c) {
  RopeArgs args{};
  args.n_heads = static_cast<std::int32_t>(c.integer("heads", 1, kMostRows));
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
  const std::int64_t tokens = c.integer("tokens", 0, kMostRows), rows = c.integer("rows", 1, kMostRows),
                     cols = c.integer("cols", 1, kMostRows);
  Operand &x = c.input("x", tokens * cols), &weight = c.matrix("weight", rows, cols);
  require(traits_of(weight.tensor->dtype).is_weight, "weight", "a type of weights");
  const bool accumulate = c.has("addTo");
  Operand& y = accumulate ? c.in_out("addTo", tokens * rows) : c.output("out", DType::f32, tokens * rows);
  require(y.tensor != x.tensor && y.tensor != weight.tensor, "addTo", "a tensor that is no other input");
  c.run = [=, &x, &weight, &y](Backend& b) {
    if (tokens > 0) b.elementary().matmul({tokens, weight.weight(), x.f32(), y.f32(), accumulate});
  };
}

void silu_mul(KernelCall& c) {
  const std::int64_t n = c.integer("n", 0, kMost);
  Operand &gate = c.input("gate", n), &up = c.input("up", n), &out = c.output("out", DType::f32, n, true);
  c.run = [=, &gate, &up, &out](Backend& b) {
    b.elementary().silu_mul({n, gate.f32(), up.f32(), out.f32()});
  };
}

void softmax(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, kMost), cols = c.integer("cols", 1, kMostRows);
  Operand &x = c.input("x", rows * cols), &out = c.output("out", DType::f32, rows * cols, true);
  c.run = [=, &x, &out](Backend& b) { b.elementary().softmax({rows, cols, x.f32(), out.f32()}); };
}

void swiglu(KernelCall& c) {
  const auto tokens = static_cast<std::int32_t>(c.integer("tokens", 0, kMostRows));
  const std::int64_t hidden = c.integer("hidden", 1, kMostRows), ffn = c.integer("ffnHidden", 1, kMostRows);
  const auto eps = static_cast<float>(c.number("eps"));
  Operand &x = c.input("x", tokens * hidden), &norm = c.input("norm", hidden),
          &gate = c.matrix("gate", ffn, hidden), &up = c.matrix("up", ffn, hidden),
          &out = c.output("out", DType::f32, tokens * ffn);
  for (Operand* w : {&gate, &up})
    require(traits_of(w->tensor->dtype).is_weight, w->name.c_str(), "a type of weights");
  c.run = [=, &x, &norm, &gate, &up, &out](Backend& b) {
    if (tokens == 0) return;
    LayerWeights layer;
    layer.ffn_norm = {norm.f32(), DType::f32, 1, hidden};
    layer.gate = gate.weight();
    layer.up = up.weight();
    b.swiglu({tokens, &layer, eps, x.f32(), out.f32()});
  };
}

void attention_input(KernelCall& c) {
  const std::int64_t hidden = c.integer("hidden", 1, kMostRows);
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
  for (Operand* w : {&query, &key, &value})
    require(traits_of(w->tensor->dtype).is_weight, w->name.c_str(), "a type of weights");
  c.run = [=, &x, &norm, &query, &key, &value, &kv, &out, &batch, &table](Backend& b) {
    if (n == 0) return;
    LayerWeights layer;
    layer.attention_norm = {norm.f32(), DType::f32, 1, hidden};
    layer.query = query.weight();
    layer.key = key.weight();
    layer.value = value.weight();
    const Batch view = batch.view(&table);
    b.attention_input({&view, &layer, shape, eps, x.f32(), kv_layer(kv), out.f32()});
  };
}

void paged_attention(KernelCall& c) {
  Operand& kv = c.kv_cache("kv", true);
  const AttentionShape shape = kv_shape(kv, static_cast<std::int32_t>(c.integer("heads", 1, 65536)));
  require(shape.n_heads % shape.n_kv_heads == 0, "heads", "a multiple of the cache's KV heads");
  KernelBatch& batch = *c.keep<KernelBatch>(c, kv.tensor->shape);
  const std::int64_t n = batch.n_tokens() * shape.n_heads * shape.head_dim;
  Operand &q = c.input("q", n), &out = c.output("out", DType::f32, n);
  c.run = [=, &q, &kv, &out, &batch](Backend& b) {
    if (n == 0) return;
    const Batch view = batch.view(nullptr);
    b.paged_attention({&view, shape, q.f32(), kv_layer(kv), out.f32()});
  };
}

void embed(KernelCall& c) {
  const std::int64_t vocab = c.integer("vocab", 1, kMostRows), cols = c.integer("cols", 1, kMostRows);
  Operand& table = c.matrix("table", vocab, cols);
  require(traits_of(table.tensor->dtype).is_weight, "table", "a type of weights");
  std::vector<std::uint32_t>& ids = *c.keep<std::vector<std::uint32_t>>(c.ids("ids", vocab));
  Operand& out = c.output("out", DType::f32, static_cast<std::int64_t>(ids.size()) * cols);
  c.run = [&table, &ids, &out](Backend& b) {
    Batch batch;
    batch.n_tokens = static_cast<std::int32_t>(ids.size());
    batch.tokens = ids.data();
    b.embed({&batch, table.weight(), out.f32()});
  };
}

void quantize(KernelCall& c) {
  const DType dtype = c.dtype("dtype");
  const std::int64_t rows = c.integer("rows", 0, kMost), cols = c.integer("cols", 1, kMostRows);
  Operand &x = c.input("x", rows * cols), &out = c.output("out", dtype, rows * cols);
  require(cols % traits_of(dtype).block_size == 0, "cols", "a whole number of blocks");
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
  c.output("out", c.dtype("dtype"), c.integer("elements", 0, kMost));
  c.run = [](Backend&) {};
}

/// Between host and device, or from one tensor to another, in its own type.
void copy(KernelCall& c) {
  Operand& x = c.matrix("x", -1, -1);
  Operand& out = c.output("out", x.tensor->dtype, x.tensor->elements());
  c.run = [&x, &out](Backend& b) {
    ElementaryOps& ops = b.elementary();
    const TensorMemory from = ops.to_host(x.tensor->memory);
    TensorMemory to = ops.to_host(out.tensor->memory);
    std::copy_n(from.data, from.bytes, to.data);
    if (to.data != out.tensor->memory.data) out.tensor->memory = ops.to_device(std::move(to));
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
      {"copy", copy},
      {"allocate", allocate},
  };  // never destroyed
  return *ops;
}

}  // namespace

void parse_kernel(const std::string& op, KernelCall& call) {
  const auto at = table().find(op);
  if (at == table().end()) throw Error(ErrorCode::invalid_argument, "op: no kernel is called '" + op + "'");
  at->second(call);
}

}  // namespace cria
