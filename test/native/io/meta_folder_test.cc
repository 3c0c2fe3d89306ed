#include "io/meta_folder.h"

#include <numeric>

#include "expect_error.h"
#include "folder_builder.h"
#include "io/pickle.h"
#include "io/torch_checkpoint.h"
#include "io/zip.h"

using namespace cria;
using namespace cria::test;

namespace {

std::shared_ptr<const File> file_of(const std::string& bytes) {
  return File::from_memory("memory.pth", {bytes.begin(), bytes.end()});
}
std::vector<StoredTensor> read(const std::string& bytes) { return read_torch_checkpoint(*file_of(bytes), 0); }

std::vector<float> counting(std::size_t n, float first = 0) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}

using Tensors = std::vector<std::pair<TensorToPickle, std::vector<float>>>;

constexpr std::string_view kParams =
    R"({"dim":4,"n_layers":1,"n_heads":2,"multiple_of":2,"norm_eps":1e-5,"vocab_size":-1})";

/// One of `n` shards of a layer of dim 4, feed-forward 10, vocabulary 6. Each value is unique.
Tensors shard_of(std::size_t n, std::size_t shard, bool embedding_by_rows) {
  Tensors list;
  const auto add = [&](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    list.push_back({{.name = name + ".weight", .shape = {rows, cols}},
                    counting(rows * cols, static_cast<float>(1000 * list.size() + 500 * shard))});
  };
  const auto add_norm = [&](const std::string& name) {
    list.push_back({{.name = name + ".weight", .shape = {4}}, counting(4)});
  };
  if (embedding_by_rows)
    add("tok_embeddings", 6 / n, 4);
  else
    add("tok_embeddings", 6, 4 / n);
  add_norm("layers.0.attention_norm");
  for (const char* name : {"wq", "wk", "wv"}) add(std::string("layers.0.attention.") + name, 4 / n, 4);
  add("layers.0.attention.wo", 4, 4 / n);
  add_norm("layers.0.ffn_norm");
  add("layers.0.feed_forward.w1", 10 / n, 4);
  add("layers.0.feed_forward.w2", 4, 10 / n);
  add("layers.0.feed_forward.w3", 10 / n, 4);
  add_norm("norm");
  add("output", 6 / n, 4);
  list.push_back({{.name = "rope.freqs", .shape = {1}}, counting(1)});
  return list;
}

MemoryFolder folder_of(std::size_t n, bool embedding_by_rows = true, std::string_view params = kParams) {
  MemoryFolder folder{{{"m/params.json", std::string(params)}}};
  for (std::size_t i = 0; i < n; ++i)
    folder.files["m/consolidated.0" + std::to_string(i) + ".pth"] =
        checkpoint_file(shard_of(n, i, embedding_by_rows));
  return folder;
}

std::unique_ptr<AssembledSource> open(const MemoryFolder& folder) {
  return open_meta_folder("m", folder.opener());
}

std::vector<float> values_of(const AssembledSource& source, const std::string& name) {
  const GgufTensor* tensor = source.find_tensor(name);
  REQUIRE(tensor != nullptr);
  std::vector<float> values(tensor->elements());
  source.read(*tensor, 0, values.data(), tensor->bytes);
  return values;
}

/// A pickle of one tensor "a" with a storage of 4 floats.
TensorToPickle four() { return {.name = "a", .shape = {4}, .storage_elements = 4}; }

std::string checkpoint_of(const std::string& pickle, const std::string& data = file_bytes({1, 2, 3, 4})) {
  return zip_file({{"archive/data.pkl", pickle}, {"archive/data/0", data}});
}

}  // namespace

TEST_CASE("meta: metadata") {
  const auto source = open(folder_of(1));
  CHECK(source->format() == "meta");
  CHECK(source->get_uint("llama.embedding_length") == 4);
  CHECK(source->get_uint("llama.feed_forward_length") == 10);
  CHECK(source->get_uint("llama.attention.head_count_kv") == 2);
  CHECK(source->get_uint("llama.context_length") == 4096);
  CHECK(source->find("llama.vocab_size") == nullptr);
  CHECK(source->find_tensor("rope_freqs.weight") == nullptr);
  CHECK(source->tensors().size() == 12);
}

TEST_CASE("meta: the feed-forward size and the scaling follow from the parameters") {
  const auto ffn = [](const std::string& params) {
    return open(folder_of(1, true, params))->get_uint("llama.feed_forward_length");
  };
  CHECK(ffn(R"({"dim":4096,"n_layers":1,"n_heads":2})") == 11008);
  CHECK(ffn(R"({"dim":4096,"n_layers":1,"n_heads":2,"multiple_of":1024,"ffn_dim_multiplier":1.3})") == 14336);
  CHECK(ffn(R"({"dim":8192,"n_layers":1,"n_heads":2,"multiple_of":4096,"ffn_dim_multiplier":1.3})") == 28672);
  const auto source = open(folder_of(1, true, R"({"dim":4,"n_layers":1,"n_heads":2,"multiple_of":2,
      "rope_theta":500000.0,"use_scaled_rope":true,"vocab_size":6})"));
  CHECK(source->get_float("llama.rope.freq_base") == 500000);
  CHECK(source->get_uint("llama.context_length") == 131072);
  CHECK(source->get_uint("llama.vocab_size") == 6);
  CHECK(values_of(*source, "rope_freqs.weight") == std::vector<float>{1});
}

TEST_CASE("meta: shards join by rows and by columns") {
  for (const bool by_rows : {true, false}) {
    CAPTURE(by_rows);
    const auto source = open(folder_of(2, by_rows));
    const GgufTensor* embedding = source->find_tensor("token_embd.weight");
    CHECK(embedding->dims[0] == 4);
    CHECK(embedding->dims[1] == 6);
    const std::vector<float> values = values_of(*source, "token_embd.weight");
    CHECK(values[0] == 0);
    CHECK(values[by_rows ? 12 : 2] == 500);
    CHECK(values[by_rows ? 2 : 4] == 2);
    const std::vector<float> query = values_of(*source, "blk.0.attn_q.weight");
    CHECK(query[7] == 2007);
    CHECK(query[8] == 2500);
    const std::vector<float> out = values_of(*source, "blk.0.attn_output.weight");
    CHECK(out[1] == 5001);
    CHECK(out[2] == 5500);
    CHECK(out[4] == 5002);
    CHECK(source->find_tensor("blk.0.ffn_down.weight")->dims[0] == 10);
  }
}

TEST_CASE("meta: folders that are refused") {
  const auto refused = [](ErrorCode code, const std::string& mentions, const MemoryFolder& folder) {
    expect_error(code, mentions, [&] { (void)open(folder); });
  };
  for (const std::string params :
       {"", "[]", "{}", R"({"dim":0,"n_layers":1,"n_heads":1})", R"({"dim":4,"n_layers":1,"n_heads":3})",
        R"({"dim":4,"n_layers":1,"n_heads":2,"n_kv_heads":0})",
        R"({"dim":4,"n_layers":1,"n_heads":2,"ffn_dim_multiplier":1e300})",
        R"({"dim":4,"n_layers":1,"n_heads":2,"rope_theta":0})", R"({"dim":1e30,"n_layers":1,"n_heads":2})"})
    refused(ErrorCode::invalid_file, "params.json", folder_of(1, true, params));
  for (const std::string key : {"moe", "quantization_args", "lora_args"})
    refused(ErrorCode::unsupported_model, key,
            folder_of(1, true, R"({"dim":4,"n_layers":1,"n_heads":2,")" + key + "\":{}}"));
  refused(ErrorCode::invalid_model, "layers.1.attention_norm.weight",
          folder_of(1, true, R"({"dim":4,"n_layers":2,"n_heads":2})"));
  MemoryFolder folder = folder_of(2);
  folder.files.erase("m/consolidated.00.pth");
  refused(ErrorCode::file_not_found, "consolidated.00.pth", folder);
  folder = folder_of(2);
  Tensors list = shard_of(2, 1, true);
  list[0].first.shape = {4, 3};
  folder.files["m/consolidated.01.pth"] = checkpoint_file(list);
  refused(ErrorCode::invalid_model, "in every shard", folder);
  list = shard_of(2, 1, true);
  list.pop_back();
  list.pop_back();
  folder.files["m/consolidated.01.pth"] = checkpoint_file(list);
  refused(ErrorCode::invalid_model, "output.weight", folder);
  list = shard_of(1, 0, true);
  list.push_back({{.name = "vision.weight", .shape = {1}}, {1}});
  folder = folder_of(1);
  folder.files["m/consolidated.00.pth"] = checkpoint_file(list);
  refused(ErrorCode::unsupported_model, "vision.weight", folder);
}

TEST_CASE("checkpoints: ZIP with and without ZIP64") {
  const Tensors list = {{{.name = "a", .shape = {2, 2}}, counting(4)},
                        {{.name = "b", .shape = {3}}, counting(3)}};
  for (const bool zip64 : {false, true}) {
    const std::string bytes = checkpoint_file(list, zip64);
    const std::vector<StoredTensor> tensors = read(bytes);
    REQUIRE(tensors.size() == 2);
    CHECK(tensors[1].name == "b");
    float third;
    std::memcpy(&third, bytes.data() + tensors[1].offset + 8, sizeof(third));
    CHECK(third == 2);
  }
}

TEST_CASE("checkpoints: a view within a storage, a parameter, an OrderedDict with a state") {
  TensorToPickle view = four();
  view.first = 2;
  view.shape = {1, 2};
  view.strides = {77, 1};  // of a dimension of 1: any
  const std::vector<StoredTensor> tensors = read(checkpoint_of(pickle_of({view})));
  CHECK(tensors[0].bytes == 8);
  const std::string parameter =
      "\x80\x02"
      "ccollections\nOrderedDict\n)R(" +
      pickle_text("a") + "ctorch._utils\n_rebuild_parameter\n(" + pickle_tensor(four()) +
      "\x88"
      "ccollections\nOrderedDict\n)RtRu}(" +
      pickle_text("_metadata") + "}ub.";
  CHECK(read(checkpoint_of(parameter)).size() == 1);
}

TEST_CASE("checkpoints: hostile pickles end in errors") {
  struct Case {
    std::string pickle, mentions;
    ErrorCode code = ErrorCode::invalid_file;
  };
  constexpr ErrorCode kUnsupported = ErrorCode::unsupported_file;
  const std::string head = "\x80\x02", tensor = pickle_tensor(four());
  const auto with = [&](auto change) {
    TensorToPickle t = four();
    change(t);
    return pickle_of({t});
  };
  const Case cases[] = {
      {"", "ends within an opcode"},
      {head, "ends within an opcode"},
      {"\x80\x01.", "protocol", kUnsupported},
      {head + "cos\nsystem\n(" + pickle_text("true") + "tR.", "\"os.system\"", kUnsupported},
      {head + "cbuiltins\neval\n.", "\"builtins.eval\"", kUnsupported},
      {head + pickle_text("os") + pickle_text("system") + "\x93.", "\"os.system\"", kUnsupported},
      {head + "ctorch.storage\n_load_from_bytes\n.", "_load_from_bytes", kUnsupported},
      {head + "(i__main__\nX\n.", "\"i\"", kUnsupported},
      {head + "(o.", "\"o\"", kUnsupported},
      {head + "\x81.", "\\x81", kUnsupported},
      {head + "\x82\x01.", "\\x82", kUnsupported},
      {head + "Pid\n.", "\"P\"", kUnsupported},
      {head + "S'x'\n.", "\"S\"", kUnsupported},
      {head + "0.", "\"0\"", kUnsupported},
      {head + "ctorch\nFloatStorage", "ends within an opcode"},
      {head + "ctorch\nFloatStorage\n)R.", "cannot be called"},
      {head + "ccollections\nOrderedDict\n" + pickle_int(1) + "\x85R.", "without arguments"},
      {head + ".", "stack empty"},
      {head + "t.", "no mark"},
      {head + "\x85.", "stack empty"},
      {head + "(\x85.", "stack empty"},
      {head + "h\x05.", "nothing is in the memo"},
      {head + "q\x01.", "stack empty"},
      {head + "Nr\xff\xff\xff\x7f.", "too many entries", kUnsupported},
      {head + "X\xff\xff\xff\xff"
              "a.",
       "ends within an opcode"},
      {head + "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
              "a.",
       "ends within an opcode"},
      {head + "\x8a\x09"
              "123456789.",
       "more than 64 bits"},
      {head + "Q.", "stack empty"},
      {head + ")Q.", "persistent id"},
      {head + "NQ.", "persistent id"},
      {head + "ctorch._utils\n_rebuild_tensor_v2\n)R.", "storage"},
      {head + "N.", "dictionary of tensors"},
      {head + "}" + pickle_text("a") + "Ns.", "expected a tensor"},
      {head + "}" + pickle_int(1) + tensor + "s.", "name"},
      {head + "}(" + pickle_text("a") + "u.", "without a value"},
      {head + "](" + pickle_text("a") + "Nu.", "expected a dictionary"},
      {head + "}Na.", "expected a list"},
      {head + "NNb.", "state"},
      {head + "}(" + pickle_text("a") + tensor + pickle_text("a") + tensor + "u.", "two tensors"},
      {with([](auto& t) { t.key = "9"; }), "are missing"},
      {with([](auto& t) { t.storage_elements = 5; }), "its data have 16 bytes"},
      {with([](auto& t) { t.storage_elements = -4; }), "-4 elements"},
      {with([](auto& t) { t.storage = "DoubleStorage"; }), "its data have 16 bytes"},
      {with([](auto& t) { t.first = 1; }), "more than the 4"},
      {with([](auto& t) { t.first = -1; }), "element -1"},
      {with([](auto& t) { t.shape = {5}; }), "more than the 4"},
      {with([](auto& t) { t.strides = {2}; }), "contiguous", kUnsupported},
      {with([](auto& t) { t.shape = {2, 2}, t.strides = {1, 2}; }), "contiguous", kUnsupported},
      {with([](auto& t) { t.strides = {1, 1}; }), "different ranks"},
      {with([](auto& t) { t.shape = {1, 1, 1, 1, 1, 1, 1, 1, 4}; }), "too many dimensions"},
      {with([](auto& t) { t.storage = "UntypedStorage"; }), "UntypedStorage", kUnsupported},
  };
  for (const Case& c : cases) {
    CAPTURE(c.pickle);
    expect_error(c.code, c.mentions, [&] { (void)read(checkpoint_of(c.pickle)); });
  }
}

TEST_CASE("checkpoints: hostile archives end in errors") {
  const std::string pickle = pickle_of({four()}), data = file_bytes({1, 2, 3, 4});
  const std::vector<FileToZip> good = {{"a/data.pkl", pickle}, {"a/data/0", data}};
  const auto refused = [](ErrorCode code, const std::string& mentions, const std::string& bytes) {
    expect_error(code, mentions, [&] { (void)read(bytes); });
  };
  CHECK(read(zip_file(good)).size() == 1);
  refused(ErrorCode::invalid_file, "an empty file", "");
  refused(ErrorCode::invalid_file, "a JSON file", "{}");
  refused(ErrorCode::unsupported_file, "a Python pickle", pickle);
  refused(ErrorCode::invalid_file, "no data.pkl", zip_file({{"a/x", data}}));
  refused(ErrorCode::invalid_file, "two pickles", zip_file({good[0], {"b/data.pkl", pickle}}));
  refused(ErrorCode::invalid_file, "two entries", zip_file({good[0], good[1], good[1]}));
  refused(ErrorCode::unsupported_file, "compressed", zip_file({good[0], {"a/data/0", data, 8}}));
  refused(ErrorCode::unsupported_file, "encrypted", zip_file({good[0], {"a/data/0", data, 0, 1}}));
  refused(ErrorCode::unsupported_file, "big endian", zip_file({good[0], good[1], {"a/byteorder", "big"}}));
  for (const bool zip64 : {false, true}) {
    const std::string whole = zip_file(good, zip64);
    for (std::size_t size = 4; size < whole.size(); ++size)
      refused(ErrorCode::invalid_file, "memory.pth", whole.substr(0, size));
    // Any byte changed: an error, or tensors within the file.
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const int value : {0, 1, 0x7f, 0x80, 0xff}) {
        std::string bytes = whole;
        bytes[at] = static_cast<char>(value);
        try {
          for (const StoredTensor& t : read(bytes)) CHECK(t.offset + t.bytes <= bytes.size());
        } catch (const Error& error) {
          CHECK((error.code() == ErrorCode::invalid_file || error.code() == ErrorCode::unsupported_file));
        }
      }
    }
  }
}
