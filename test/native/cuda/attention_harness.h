// Sequences in a paged cache with shuffled pages, whose unused slots are NaN, and attention over parts of
// them.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>

#include "core/float_bits.h"
#include "cuda/support.h"
#include "kernels/cuda/attention.h"
#include "random_inputs.h"

namespace cria::test {

/// Tokens first .. first + count of a sequence, in one forward pass.
struct Part {
  std::int32_t sequence, first, count;
};

struct AttentionCase {
  AttentionShape shape;
  DType kv_dtype = DType::f16;
  /// Of the sequences, in tokens.
  std::vector<std::int32_t> lengths;
  /// [all tokens, heads * head_dim], sequence after sequence, after RoPE.
  std::vector<float> q, k, v;
  std::vector<std::int32_t> table;  // [sequences, stride]
  std::int32_t table_stride = 0;
  std::unique_ptr<DeviceArray<unsigned char>> pages;
  KvLayer kv;

  AttentionCase(std::mt19937_64& rng, const AttentionShape& s, DType dtype,
                std::vector<std::int32_t> sequence_lengths)
      : shape(s), kv_dtype(dtype), lengths(std::move(sequence_lengths)) {
    shape.rope_dim = 0;
    const auto tokens = static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.end(), 0));
    q = random_floats(rng, tokens * static_cast<std::size_t>(s.n_heads * s.head_dim), 2.0f);
    k = random_floats(rng, tokens * static_cast<std::size_t>(s.n_kv_heads * s.head_dim));
    v = random_floats(rng, tokens * static_cast<std::size_t>(s.n_kv_heads * s.head_dim));
    std::int32_t n_pages = 0;
    for (const std::int32_t n : lengths) {
      n_pages += (n + 63) / 64;
      table_stride = std::max(table_stride, (n + 63) / 64 + 1);
    }
    std::vector<std::int32_t> ids(static_cast<std::size_t>(n_pages));
    std::iota(ids.begin(), ids.end(), 1);
    std::shuffle(ids.begin(), ids.end(), rng);
    table.assign(lengths.size() * static_cast<std::size_t>(table_stride),
                 0x7fffffff);  // invalid unless set below
    std::size_t next = 0;
    for (std::size_t i = 0; i < lengths.size(); i++)
      for (std::int32_t p = 0; p < (lengths[i] + 63) / 64; p++)
        table[i * static_cast<std::size_t>(table_stride) + static_cast<std::size_t>(p)] = ids[next++];
    const std::size_t stride = cuda::kv_page_bytes(s, dtype);
    pages = std::make_unique<DeviceArray<unsigned char>>(stride * static_cast<std::size_t>(n_pages + 1));
    cuda::fill_bytes(pages->data(), 0xff, pages->size(), nullptr);
    kv = {reinterpret_cast<std::byte*>(pages->data()), stride, dtype, 64};
    std::vector<Part> all;
    for (std::size_t i = 0; i < lengths.size(); i++)
      all.push_back({static_cast<std::int32_t>(i), 0, lengths[i]});
    append(all);
  }

  std::size_t row_of(std::int32_t sequence, std::int32_t position) const {
    return static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.begin() + sequence, 0) +
                                    position);
  }
  /// The parts' rows of `values`.
  std::vector<float> rows(const std::vector<float>& values, const std::vector<Part>& parts) const {
    const std::size_t cols = values.size() / row_of(static_cast<std::int32_t>(lengths.size()), 0);
    std::vector<float> out;
    for (const Part& p : parts) {
      const auto from = values.begin() + static_cast<std::ptrdiff_t>(row_of(p.sequence, p.first) * cols);
      out.insert(out.end(), from,
                 from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(p.count) * cols));
    }
    return out;
  }

  struct DeviceBatch {
    std::vector<std::int32_t> host_positions, host_sequences;
    DeviceArray<std::int32_t> positions, sequences, table;
    Batch batch{};
    DeviceBatch(const AttentionCase& c, const std::vector<Part>& parts, std::int32_t padding)
        : host_positions(positions_of(parts, padding)),
          host_sequences(sequences_of(parts, padding)),
          positions(host_positions),
          sequences(host_sequences),
          table(c.table) {
      batch.n_tokens = static_cast<std::int32_t>(host_positions.size());
      batch.n_sequences = static_cast<std::int32_t>(c.lengths.size());
      batch.positions = positions.data();
      batch.sequence_of = sequences.data();
      batch.block_table = table.data();
      batch.block_table_stride = c.table_stride;
    }
    static std::vector<std::int32_t> positions_of(const std::vector<Part>& parts, std::int32_t padding) {
      std::vector<std::int32_t> out;
      for (const Part& p : parts)
        for (std::int32_t i = 0; i < p.count; i++) out.push_back(p.first + i);
      out.insert(out.end(), static_cast<std::size_t>(padding), -1);
      return out;
    }
    static std::vector<std::int32_t> sequences_of(const std::vector<Part>& parts, std::int32_t padding) {
      std::vector<std::int32_t> out;
      for (const Part& p : parts) out.insert(out.end(), static_cast<std::size_t>(p.count), p.sequence);
      out.insert(out.end(), static_cast<std::size_t>(padding), 0);
      return out;
    }
  };

  void append(const std::vector<Part>& parts) {
    const DeviceBatch b(*this, parts, 1);
    const std::size_t kv_cols = static_cast<std::size_t>(shape.n_kv_heads * shape.head_dim);
    std::vector<float> rows_of_q = rows(q, parts), rows_of_k = rows(k, parts), rows_of_v = rows(v, parts);
    rows_of_q.resize(rows_of_q.size() + static_cast<std::size_t>(shape.n_heads * shape.head_dim), 0.0f);
    rows_of_k.resize(rows_of_k.size() + kv_cols, 0.0f);
    rows_of_v.resize(rows_of_v.size() + kv_cols, 0.0f);
    const DeviceArray<float> dq(rows_of_q), dk(rows_of_k), dv(rows_of_v);
    cuda::append_kv({&b.batch, shape, dq.data(), dk.data(), dv.data(), shape.n_heads * shape.head_dim,
                     shape.n_kv_heads * shape.head_dim, dq.data(), kv},
                    nullptr);
    cuda::synchronize(cuda::Stream{});
  }

  /// Returns [tokens of the parts, heads * head_dim]. `multiprocessors` decides into how many blocks contexts
  /// are split.
  std::vector<float> attend(const std::vector<Part>& parts, std::int32_t multiprocessors = 132,
                            std::int32_t padding = 0,
                            const cuda::AttentionLimits* limits_given = nullptr) const {
    const DeviceBatch b(*this, parts, padding);
    const cuda::AttentionLimits limits =
        limits_given ? *limits_given
                     : cuda::attention_limits(shape, b.batch.n_tokens, false, multiprocessors);
    const cuda::AttentionPlan plan(b.host_positions.data(), b.host_sequences.data(), b.batch.n_tokens, shape,
                                   limits, multiprocessors);
    DeviceArray<unsigned char> device_plan(plan.size());
    cuda::copy_to_device(device_plan.data(), plan.data(), plan.size(), nullptr);
    const DeviceArray<unsigned char> workspace(cuda::attention_workspace_bytes(limits, shape));
    cuda::fill_bytes(workspace.data(), 0, workspace.size(), nullptr);
    const cuda::AttentionSetup setup = cuda::attention_setup(shape, cuda::device_properties(0));
    std::vector<float> rows_of_q = rows(q, parts);
    const std::size_t wanted = rows_of_q.size();
    rows_of_q.resize(wanted + static_cast<std::size_t>(padding * shape.n_heads * shape.head_dim), 0.0f);
    const DeviceArray<float> dq(rows_of_q), out(rows_of_q.size());
    // Twice: the first launch must leave the workspace as it found it.
    for (int i = 0; i < 2; i++) {
      cuda::fill_bytes(out.data(), 0xff, out.size() * 4, nullptr);
      cuda::paged_attention({&b.batch, shape, dq.data(), kv, out.data()},
                            {device_plan.data(), workspace.data(), limits}, setup, nullptr);
    }
    std::vector<float> result = out.get();
    for (std::size_t i = wanted; i < result.size(); i++) REQUIRE(float_bits(result[i]) == 0xffffffffu);
    result.resize(wanted);
    return result;
  }

  /// Error of `y` against dense float64 attention on the stored values, relative to what is summed.
  double error(const std::vector<Part>& parts, const std::vector<float>& y) const {
    const auto stored = [&](float x) {
      return static_cast<double>(kv_dtype == DType::f32 ? x : f16_to_f32(f32_to_f16(x)));
    };
    const std::size_t dim = static_cast<std::size_t>(shape.head_dim),
                      heads = static_cast<std::size_t>(shape.n_heads),
                      kv_heads = static_cast<std::size_t>(shape.n_kv_heads);
    double difference = 0, summed = 0;
    std::size_t at = 0;
    for (const Part& part : parts)
      for (std::int32_t i = 0; i < part.count; i++) {
        const std::size_t row = row_of(part.sequence, part.first + i), first = row_of(part.sequence, 0);
        for (std::size_t h = 0; h < heads; h++) {
          const std::size_t kv_head = h / (heads / kv_heads);
          std::vector<double> p(row - first + 1);
          double max = -INFINITY, sum = 0;
          for (std::size_t t = 0; t < p.size(); t++) {
            for (std::size_t d = 0; d < dim; d++)
              p[t] += static_cast<double>(q[(row * heads + h) * dim + d]) *
                      stored(k[((first + t) * kv_heads + kv_head) * dim + d]);
            p[t] /= std::sqrt(static_cast<double>(dim));
            max = std::max(max, p[t]);
          }
          for (double& e : p) sum += e = std::exp(e - max);
          for (std::size_t d = 0; d < dim; d++) {
            double o = 0;
            for (std::size_t t = 0; t < p.size(); t++) {
              const double term = p[t] / sum * stored(v[((first + t) * kv_heads + kv_head) * dim + d]);
              o += term;
              summed += term * term;
            }
            const double delta = static_cast<double>(y[at++]) - o;
            difference += delta * delta;
          }
        }
      }
    return std::sqrt(difference / summed);
  }
};

}  // namespace cria::test
