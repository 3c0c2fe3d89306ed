// Single kernels on a device: time, GB/s, TFLOP/s and the share of the bandwidth of a plain copy, as JSON.
//
//   bench_gpu_kernels [--shapes 8b|1b|tiny] [--types BF16,Q8_0,Q6_K,Q4_K] [--tokens 1,8,64,512,2048]
//   [--repeat 20]
//
// A product is repeated in one graph over copies of its weights that together exceed the L2 cache, so neither
// launches nor cached weights distort the result.
#include <cmath>
#include <random>

#include "bench/gpu/report.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/owned.h"
#include "kernels/cuda/sample.h"

using namespace cria;
using namespace cria::bench;
using namespace cria::cuda;

namespace {

struct Shape {
  const char* name;
  std::int64_t rows, cols;
};

struct Model {
  std::vector<Shape> products;
  AttentionShape attention;
  std::int64_t vocab;
};

Model model_of(const std::string& name) {
  if (name == "8b")
    return {{{"qkv", 6144, 4096},
             {"output", 4096, 4096},
             {"gate_up", 28672, 4096},
             {"down", 4096, 14336},
             {"logits", 128256, 4096}},
            {32, 8, 128, 128, false},
            128256};
  if (name == "1b")
    return {{{"qkv", 3072, 2048},
             {"output", 2048, 2048},
             {"gate_up", 16384, 2048},
             {"down", 2048, 8192},
             {"logits", 128256, 2048}},
            {32, 8, 64, 64, false},
            128256};
  return {{{"tiny", 64, 256}}, {4, 2, 64, 64, false}, 300};
}

DType type_of(const std::string& name) {
  for (const DType t :
       {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q6_k, DType::q5_k, DType::q4_k, DType::q4_0})
    if (name == name_of(t)) return t;
  std::fprintf(stderr, "unknown type %s\n", name.c_str());
  std::exit(2);
}

class Bench {
 public:
  Bench(int device, int repeat) : properties_(device_properties(device)), repeat_(repeat) {
    set_device(device);
    stream_.reset(create_stream());
    begin_.reset(create_event());
    end_.reset(create_event());
    matmul_ = prepare_matmul(properties_);
  }
  Stream stream() const { return stream_.get(); }
  const DeviceProperties& properties() const { return properties_; }
  const MatmulDevice& matmul_device() const { return matmul_; }

  /// Microseconds of `work`, captured in a graph and launched `repeat` times after two warm-up launches.
  template <class Work>
  double microseconds(Work work) {
    work();  // loads the kernels
    synchronize(stream());
    begin_capture(stream());
    work();
    const OwnedGraph graph(end_capture(stream()));
    const OwnedGraphExec exec(instantiate(graph.get()));
    std::vector<double> times;
    for (int i = -2; i < repeat_; i++) {
      record(begin_.get(), stream());
      launch(exec.get(), stream());
      record(end_.get(), stream());
      synchronize(stream());
      if (i >= 0) times.push_back(1e3 * static_cast<double>(elapsed_milliseconds(begin_.get(), end_.get())));
    }
    return median(times);
  }

 private:
  DeviceProperties properties_;
  int repeat_;
  OwnedStream stream_;
  OwnedEvent begin_, end_;
  MatmulDevice matmul_;
};

/// GB/s of a copy on the device, counting bytes read and written: the practical peak bandwidth.
double copy_gbs(Bench& bench, std::size_t bytes) {
  const auto from = allocate_array<std::byte>(bytes, "the benchmark"),
             to = allocate_array<std::byte>(bytes, "the benchmark");
  fill_bytes(from.get(), 1, bytes, bench.stream());
  return 2e-3 * static_cast<double>(bytes) /
         bench.microseconds([&] { copy_on_device(to.get(), from.get(), bytes, bench.stream()); });
}

Json product(Bench& bench, const Shape& s, DType type, std::int32_t tokens, double ceiling) {
  const std::size_t bytes = packed_bytes(type, s.rows, s.cols);
  const std::size_t max_bytes = bench.properties().total_memory / 4;
  const auto copies = static_cast<int>(std::clamp<std::size_t>(4 * bench.properties().l2_bytes / bytes + 1, 1,
                                                               std::max<std::size_t>(1, max_bytes / bytes)));
  const auto weights = allocate_array<std::byte>(bytes * static_cast<std::size_t>(copies), "weights");
  // 0x11 gives small numbers in every format, and no infinite scale.
  fill_bytes(weights.get(), 0x11, bytes * static_cast<std::size_t>(copies), bench.stream());
  const ActivationForm form = activation_form(type);
  const auto n = static_cast<std::size_t>(tokens);
  const auto x = allocate_array<float>(n * static_cast<std::size_t>(s.cols), "activations");
  const auto y = allocate_array<float>(n * static_cast<std::size_t>(s.rows), "results");
  fill_bytes(x.get(), 0x3d, n * static_cast<std::size_t>(s.cols) * 4, bench.stream());
  const auto activations =
      allocate_array<std::byte>(activation_bytes(form, tokens, s.cols), "quantized activations");
  quantize_activations(form, x.get(), tokens, s.cols, activations.get(), bench.stream());
  const double us = bench.microseconds([&] {
    for (int i = 0; i < copies; i++)
      matmul(bench.matmul_device(),
             {.weight = {weights.get() + bytes * static_cast<std::size_t>(i), type, s.rows, s.cols},
              .activations = activations.get(),
              .n_tokens = tokens,
              .y = y.get(),
              .y_stride = s.rows},
             bench.stream());
  }) / copies;
  const double gbs = 1e-3 * static_cast<double>(bytes) / us;
  return Json()
      .text("kernel", tokens <= 8 ? "matmul_vector" : "matmul_tiles")
      .text("product", s.name)
      .text("type", std::string(name_of(type)))
      .number("tokens", tokens)
      .number("us", us)
      .number("gbs", gbs)
      .number("shareOfCopy", gbs / ceiling)
      .number("tflops", 2e-6 * static_cast<double>(s.rows) * static_cast<double>(s.cols) * tokens / us);
}

Json attention(Bench& bench, const AttentionShape& s, std::int32_t sequences, std::int32_t context,
               std::int32_t count, double ceiling) {
  const std::int32_t pages_each = (context + kKvPageTokens - 1) / kKvPageTokens, n = sequences * count;
  const std::size_t stride = kv_page_bytes(s, DType::f16);
  const auto pages = allocate_array<std::byte>(
      stride * static_cast<std::size_t>(pages_each) * static_cast<std::size_t>(sequences), "the cache");
  fill_bytes(pages.get(), 0x11, stride * static_cast<std::size_t>(pages_each * sequences), bench.stream());
  std::vector<std::int32_t> positions, sequence_of, table;
  for (std::int32_t i = 0; i < sequences; i++) {
    for (std::int32_t t = context - count; t < context; t++) {
      positions.push_back(t);
      sequence_of.push_back(i);
    }
    for (std::int32_t p = 0; p < pages_each; p++) table.push_back(i * pages_each + p);
  }
  const AttentionLimits limits = attention_limits(s, n, count == 1, bench.properties().multiprocessors);
  const AttentionPlan plan(positions.data(), sequence_of.data(), n, s, limits,
                           bench.properties().multiprocessors);
  const std::size_t workspace_bytes = attention_workspace_bytes(limits, s);
  const auto device_plan = allocate_array<std::byte>(plan.size(), "the plan");
  const auto workspace = allocate_array<std::byte>(workspace_bytes, "the workspace");
  const auto device_ints = allocate_array<std::int32_t>(positions.size() * 2 + table.size(), "the batch");
  const auto values = static_cast<std::size_t>(n) * static_cast<std::size_t>(s.n_heads * s.head_dim);
  const auto q = allocate_array<float>(values, "q"), out = allocate_array<float>(values, "results");
  const Stream stream = bench.stream();
  copy_to_device(device_plan.get(), plan.data(), plan.size(), stream);
  fill_bytes(workspace.get(), 0, workspace_bytes, stream);
  fill_bytes(q.get(), 0x3d, values * 4, stream);
  std::int32_t* const at = device_ints.get();
  copy_to_device(at, positions.data(), positions.size() * 4, stream);
  copy_to_device(at + positions.size(), sequence_of.data(), sequence_of.size() * 4, stream);
  copy_to_device(at + 2 * positions.size(), table.data(), table.size() * 4, stream);
  synchronize(stream);
  Batch batch{};
  batch.n_tokens = n;
  batch.n_sequences = sequences;
  batch.positions = at;
  batch.sequence_of = at + positions.size();
  batch.block_table = at + 2 * positions.size();
  batch.block_table_stride = pages_each;
  const AttentionSetup setup = attention_setup(s, bench.properties());
  const KvLayer kv{pages.get(), stride, DType::f16, kKvPageTokens};
  const double us = bench.microseconds([&] {
    paged_attention({&batch, s, q.get(), kv, out.get()}, {device_plan.get(), workspace.get(), limits}, setup,
                    stream);
  });
  const double bytes = 4.0 * s.n_kv_heads * s.head_dim * context * sequences;
  const double seen = count * (context - (count - 1) / 2.0);  // causal
  return Json()
      .text("kernel", count == 1 ? "attention_decode" : "attention_prefill")
      .number("headDim", s.head_dim)
      .number("sequences", sequences)
      .number("context", context)
      .number("tokens", count)
      .number("us", us)
      .number("gbs", 1e-3 * bytes / us)
      .number("shareOfCopy", 1e-3 * bytes / us / ceiling)
      .number("tflops", 4e-6 * sequences * s.n_heads * s.head_dim * seen / us);
}

Json greedy_choice(Bench& bench, std::int32_t rows, std::int64_t vocab, double ceiling) {
  const auto n = static_cast<std::size_t>(rows);
  const auto logits = allocate_array<float>(n * static_cast<std::size_t>(vocab), "logits");
  fill_bytes(logits.get(), 0x3d, n * static_cast<std::size_t>(vocab) * 4, bench.stream());
  const std::size_t bytes = greedy_workspace_bytes(rows, vocab);
  const auto workspace = allocate_array<std::byte>(bytes, "the workspace");
  fill_bytes(workspace.get(), 0, bytes, bench.stream());
  const auto ids = allocate_array<std::uint32_t>(n, "tokens");
  const auto sums = allocate_array<float>(n, "sums");
  const double us = bench.microseconds(
      [&] { greedy(logits.get(), rows, vocab, ids.get(), sums.get(), workspace.get(), bench.stream()); });
  const double gbs = 4e-3 * static_cast<double>(rows) * static_cast<double>(vocab) / us;
  return Json()
      .text("kernel", "greedy")
      .number("rows", rows)
      .number("us", us)
      .number("gbs", gbs)
      .number("shareOfCopy", gbs / ceiling);
}

int run(int argc, char** argv) {
  const std::string shapes = argument(argc, argv, "shapes", "8b");
  const bool tiny = shapes == "tiny";
  const Model model = model_of(shapes);
  Bench bench(0, std::atoi(argument(argc, argv, "repeat", tiny ? "1" : "20").c_str()));
  const double ceiling = copy_gbs(bench, tiny ? 1 << 20 : std::size_t{1} << 30);
  std::vector<Json> results;
  for (const std::string& type : split(argument(argc, argv, "types", "BF16,Q8_0,Q6_K,Q4_K")))
    for (const Shape& s : model.products)
      for (const std::string& n : split(argument(argc, argv, "tokens", tiny ? "1,9" : "1,8,64,512,2048")))
        results.push_back(product(bench, s, type_of(type), std::atoi(n.c_str()), ceiling));
  for (const std::int32_t context : tiny ? std::vector{70} : std::vector{1024, 8192, 32768})
    for (const std::int32_t sequences : tiny ? std::vector{1, 2} : std::vector{1, 8, 64})
      results.push_back(attention(bench, model.attention, sequences, context, 1, ceiling));
  for (const std::int32_t count : tiny ? std::vector{40} : std::vector{512, 2048})
    results.push_back(attention(bench, model.attention, 1, count, count, ceiling));
  for (const std::int32_t rows : tiny ? std::vector{2} : std::vector{1, 8, 64})
    results.push_back(greedy_choice(bench, rows, model.vocab, ceiling));
  std::printf("%s\n", Json()
                          .list("machine", {machine(0)})
                          .text("shapes", shapes)
                          .number("copyGBs", ceiling)
                          .list("results", results)
                          .str()
                          .c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return cria::bench::run_program(run, argc, argv); }
