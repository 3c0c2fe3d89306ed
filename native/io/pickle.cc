#include "io/pickle.h"

#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

// The pickle of a real checkpoint makes some ten thousand values.
constexpr std::size_t kMaxValues = 1 << 21;
constexpr std::size_t kMaxRank = 8;

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  number,
  text,
  global,
  tuple,
  list,
  dict,
  storage,
  tensor
};

enum class Global : std::uint8_t { ordered_dict, rebuild_tensor, rebuild_parameter, storage_type };

struct KnownGlobal {
  std::string_view module, name;
  Global global;
  StoredType type = StoredType::f32;
};

constexpr KnownGlobal kGlobals[] = {
    {"collections", "OrderedDict", Global::ordered_dict},
    {"torch._utils", "_rebuild_tensor_v2", Global::rebuild_tensor},
    {"torch._utils", "_rebuild_parameter", Global::rebuild_parameter},
    {"torch", "FloatStorage", Global::storage_type, StoredType::f32},
    {"torch", "HalfStorage", Global::storage_type, StoredType::f16},
    {"torch", "BFloat16Storage", Global::storage_type, StoredType::bf16},
    {"torch", "DoubleStorage", Global::storage_type, StoredType::f64},
    {"torch", "LongStorage", Global::storage_type, StoredType::i64},
    {"torch", "IntStorage", Global::storage_type, StoredType::i32},
    {"torch", "ShortStorage", Global::storage_type, StoredType::i16},
    {"torch", "CharStorage", Global::storage_type, StoredType::i8},
    {"torch", "ByteStorage", Global::storage_type, StoredType::u8},
    {"torch", "BoolStorage", Global::storage_type, StoredType::boolean},
    {"torch", "ComplexFloatStorage", Global::storage_type, StoredType::c64},
};

/// A handle of a value: values never move or die, so that the memo and containers can share them.
using Ref = std::uint32_t;

struct Value {
  Kind kind = Kind::none;
  StoredType type = StoredType::f32;     // storage, tensor
  Global global = Global::ordered_dict;  // global
  std::int64_t integer = 0;              // integer, boolean; storage: its elements; tensor: its first element
  std::string_view text;                 // text; storage, tensor: its key
  std::vector<Ref> items;  // tuple, list; dict: key, value, key, ...; tensor: storage, size, stride
};

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& name) : pickle_(pickle), name_(name) {}

  std::vector<PickledTensor> run() {
    while (!step()) {
    }
    return tensors_of(pop());
  }

 private:
  bool step();
  bool push_constant(unsigned char opcode);
  bool build_container(unsigned char opcode);
  bool use_memo(unsigned char opcode);
  void push_global(std::string_view module, std::string_view name);
  void persistent_load();
  void reduce();
  void rebuild_tensor(const Value& arguments);
  void set_items(std::size_t begin, bool pairs);
  std::vector<PickledTensor> tensors_of(Ref root) const;
  std::vector<std::uint64_t> sizes(Ref tuple, const char* what) const;

  // ---- bytes ----
  template <typename T>
  T take() {
    T value;
    std::memcpy(&value, take_bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view take_bytes(std::uint64_t bytes) {
    if (bytes > pickle_.size() - at_) fail("the pickle ends within an opcode");
    const std::string_view taken = pickle_.substr(at_, static_cast<std::size_t>(bytes));
    at_ += taken.size();
    return taken;
  }
  std::string_view take_line() {
    const std::size_t end = pickle_.find('\n', at_);
    if (end == std::string_view::npos) fail("the pickle ends within an opcode");
    const std::string_view line = pickle_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  // ---- values and the stack ----
  void push(Value value) {
    if (values_.size() >= kMaxValues) fail("the pickle makes too many values", ErrorCode::unsupported_file);
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<Ref>(values_.size() - 1));
  }
  Ref pop() {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) fail("an opcode finds the stack empty");
    const Ref top = stack_.back();
    stack_.pop_back();
    return top;
  }
  /// The value below what an opcode just popped.
  Value& top(Kind kind, const char* what) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor || values_[stack_.back()].kind != kind) fail(std::string("expected ") + what);
    return values_[stack_.back()];
  }
  std::size_t pop_mark() {
    if (marks_.empty()) fail("an opcode finds no mark");
    const std::size_t begin = marks_.back();
    marks_.pop_back();
    return begin;
  }
  const Value& value(Ref ref) const { return values_[ref]; }
  const Value& item(const Value& tuple, std::size_t i, Kind kind, const char* what) const {
    if (i >= tuple.items.size() || value(tuple.items[i]).kind != kind) fail(std::string("expected ") + what);
    return value(tuple.items[i]);
  }

  [[noreturn]] void fail(const std::string& message, ErrorCode code = ErrorCode::invalid_file) const {
    throw Error(code, name_ + ": byte " + std::to_string(at_) + ": " + message,
                {{"path", name_}, {"offset", at_}});
  }

  std::string_view pickle_;
  const std::string& name_;
  std::size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::vector<std::optional<Ref>> memo_;
};

/// Runs an opcode; true at the end of the program. The letters are those of pickletools.
bool Machine::step() {
  const auto opcode = take<std::uint8_t>();
  if (push_constant(opcode) || build_container(opcode) || use_memo(opcode)) return false;
  switch (opcode) {
    case 0x80:  // PROTO
      if (const auto version = take<std::uint8_t>(); version < 2 || version > 5)
        fail("expected a pickle of protocol 2 to 5, found " + std::to_string(version),
             ErrorCode::unsupported_file);
      return false;
    case 0x95: take<std::uint64_t>(); return false;  // FRAME: where a reader may read ahead
    case '(': marks_.push_back(stack_.size()); return false;
    case 'c': {  // GLOBAL
      const std::string_view module = take_line();
      push_global(module, take_line());
      return false;
    }
    case 0x93: {  // STACK_GLOBAL
      const Ref name = pop(), module = pop();
      if (value(name).kind != Kind::text || value(module).kind != Kind::text)
        fail("expected a global's name");
      push_global(value(module).text, value(name).text);
      return false;
    }
    case 'Q': persistent_load(); return false;  // BINPERSID
    case 'R': reduce(); return false;
    case 'b':  // BUILD: an OrderedDict's attributes, such as a module's _metadata
      if (value(pop()).kind != Kind::dict) fail("expected a dictionary as state");
      top(Kind::dict, "a dictionary that takes a state");
      return false;
    case '.': return true;
    default: break;
  }
  --at_;
  fail("the opcode " + quote(std::string_view(&pickle_[at_], 1)) +
           " is not among those that build tensors; such a pickle may run any code",
       ErrorCode::unsupported_file);
}

bool Machine::push_constant(unsigned char opcode) {
  const auto integer = [&](std::int64_t n) { push({.kind = Kind::integer, .integer = n}); };
  const auto text = [&](std::uint64_t bytes) { push({.kind = Kind::text, .text = take_bytes(bytes)}); };
  switch (opcode) {
    case 'N': push({}); return true;
    case 0x88: push({.kind = Kind::boolean, .integer = 1}); return true;
    case 0x89: push({.kind = Kind::boolean, .integer = 0}); return true;
    case 'J': integer(take<std::int32_t>()); return true;
    case 'K': integer(take<std::uint8_t>()); return true;
    case 'M': integer(take<std::uint16_t>()); return true;
    case 'G':
      take_bytes(8);
      push({.kind = Kind::number});
      return true;  // BINFLOAT: nothing needs its value
    case 0x8a: {    // LONG1, little endian
      const std::string_view bytes = take_bytes(take<std::uint8_t>());
      if (bytes.size() > 8) fail("an integer of more than 64 bits");
      std::uint64_t number = 0;
      for (std::size_t i = 0; i < bytes.size(); ++i)
        number |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
      const std::size_t bits = 8 * bytes.size();
      if (bits > 0 && bits < 64 && (number >> (bits - 1)) != 0) number |= ~std::uint64_t{0} << bits;
      integer(static_cast<std::int64_t>(number));
      return true;
    }
    case 'X': text(take<std::uint32_t>()); return true;
    case 0x8c: text(take<std::uint8_t>()); return true;
    case 0x8d: text(take<std::uint64_t>()); return true;
    default: return false;
  }
}

bool Machine::build_container(unsigned char opcode) {
  const auto tuple = [&](std::size_t begin) {
    Value made{.kind = Kind::tuple};
    made.items.assign(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
    stack_.resize(begin);
    push(std::move(made));
  };
  const auto tuple_of = [&](std::size_t n) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < n) fail("an opcode finds the stack empty");
    tuple(stack_.size() - n);
  };
  switch (opcode) {
    case '}': push({.kind = Kind::dict}); return true;
    case ']': push({.kind = Kind::list}); return true;
    case ')': push({.kind = Kind::tuple}); return true;
    case 't': tuple(pop_mark()); return true;
    case 0x85: tuple_of(1); return true;
    case 0x86: tuple_of(2); return true;
    case 0x87: tuple_of(3); return true;
    case 's': set_items(stack_.size() < 2 ? 0 : stack_.size() - 2, true); return true;
    case 'u': set_items(pop_mark(), true); return true;
    case 'a': set_items(stack_.empty() ? 0 : stack_.size() - 1, false); return true;
    case 'e': set_items(pop_mark(), false); return true;
    default: return false;
  }
}

/// Moves what lies on the stack from `begin` on into the dictionary or list below.
void Machine::set_items(std::size_t begin, bool pairs) {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (begin < floor || begin > stack_.size()) fail("an opcode finds the stack empty");
  const std::vector<Ref> items(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
  stack_.resize(begin);
  if (pairs && items.size() % 2 != 0) fail("a key without a value");
  Value& into = pairs ? top(Kind::dict, "a dictionary") : top(Kind::list, "a list");
  into.items.insert(into.items.end(), items.begin(), items.end());
}

bool Machine::use_memo(unsigned char opcode) {
  const auto put = [&](std::size_t index) {
    if (stack_.empty()) fail("an opcode finds the stack empty");
    if (index >= kMaxValues) fail("the memo has too many entries", ErrorCode::unsupported_file);
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = stack_.back();
  };
  const auto get = [&](std::size_t index) {
    if (index >= memo_.size() || !memo_[index]) fail("nothing is in the memo at " + std::to_string(index));
    // A pickle may name one value any number of times, at two bytes each.
    if (stack_.size() >= kMaxValues) fail("the stack is too deep", ErrorCode::unsupported_file);
    stack_.push_back(*memo_[index]);
  };
  switch (opcode) {
    case 'q': put(take<std::uint8_t>()); return true;
    case 'r': put(take<std::uint32_t>()); return true;
    case 0x94: put(memo_.size()); return true;  // MEMOIZE
    case 'h': get(take<std::uint8_t>()); return true;
    case 'j': get(take<std::uint32_t>()); return true;
    default: return false;
  }
}

void Machine::push_global(std::string_view module, std::string_view name) {
  for (const KnownGlobal& known : kGlobals)
    if (known.module == module && known.name == name)
      return push({.kind = Kind::global, .type = known.type, .global = known.global});
  fail("the global " + quote(std::string(module) + "." + std::string(name)) +
           " is not among those that build tensors; such a pickle may run any code",
       ErrorCode::unsupported_file);
}

/// ("storage", type, key, device, elements)
void Machine::persistent_load() {
  const Value& id = value(pop());
  if (id.kind != Kind::tuple || item(id, 0, Kind::text, "a persistent id").text != "storage")
    fail("expected the persistent id of a storage");
  const Value& type = item(id, 1, Kind::global, "a type of storage");
  if (type.global != Global::storage_type) fail("expected a type of storage");
  const std::int64_t elements = item(id, 4, Kind::integer, "the elements of a storage").integer;
  if (elements < 0) fail("a storage of " + std::to_string(elements) + " elements");
  push({.kind = Kind::storage,
        .type = type.type,
        .integer = elements,
        .text = item(id, 2, Kind::text, "the key of a storage").text});
}

void Machine::reduce() {
  const Ref arguments = pop(), callable = pop();
  if (value(arguments).kind != Kind::tuple || value(callable).kind != Kind::global)
    fail("expected a global and its arguments");
  switch (value(callable).global) {
    case Global::ordered_dict:
      if (!value(arguments).items.empty()) fail("expected an OrderedDict without arguments");
      push({.kind = Kind::dict});
      return;
    case Global::rebuild_tensor: rebuild_tensor(value(arguments)); return;
    case Global::rebuild_parameter:
      (void)item(value(arguments), 0, Kind::tensor, "a parameter's tensor");
      stack_.push_back(value(arguments).items[0]);
      return;
    case Global::storage_type: break;
  }
  fail("a type of storage cannot be called");
}

/// (storage, first element, size, stride, requires_grad, hooks)
void Machine::rebuild_tensor(const Value& arguments) {
  const Value& storage = item(arguments, 0, Kind::storage, "a tensor's storage");
  const std::int64_t first = item(arguments, 1, Kind::integer, "a tensor's first element").integer;
  if (first < 0) fail("a tensor that begins at element " + std::to_string(first));
  (void)item(arguments, 2, Kind::tuple, "a tensor's size");
  (void)item(arguments, 3, Kind::tuple, "a tensor's stride");
  Value tensor{.kind = Kind::tensor, .type = storage.type, .integer = first, .text = storage.text};
  tensor.items = {arguments.items[0], arguments.items[2], arguments.items[3]};
  push(std::move(tensor));
}

std::vector<std::uint64_t> Machine::sizes(Ref tuple, const char* what) const {
  std::vector<std::uint64_t> result;
  const Value& from = value(tuple);
  if (from.items.size() > kMaxRank) fail(std::string(what) + " of too many dimensions");
  for (std::size_t i = 0; i < from.items.size(); ++i) {
    const std::int64_t size = item(from, i, Kind::integer, what).integer;
    if (size < 0) fail(std::string(what) + " of " + std::to_string(size));
    result.push_back(static_cast<std::uint64_t>(size));
  }
  return result;
}

std::vector<PickledTensor> Machine::tensors_of(Ref root) const {
  const Value& dict = value(root);
  if (dict.kind != Kind::dict) fail("expected a dictionary of tensors");
  std::vector<PickledTensor> tensors;
  for (std::size_t i = 0; i < dict.items.size(); i += 2) {
    const Value& name = item(dict, i, Kind::text, "a tensor's name");
    const Value& tensor = value(dict.items[i + 1]);
    if (tensor.kind != Kind::tensor) fail("expected a tensor as " + quote(name.text));
    tensors.push_back({.name = std::string(name.text),
                       .type = tensor.type,
                       .storage = std::string(tensor.text),
                       .storage_elements = static_cast<std::uint64_t>(value(tensor.items[0]).integer),
                       .first = static_cast<std::uint64_t>(tensor.integer),
                       .shape = sizes(tensor.items[1], "a size"),
                       .strides = sizes(tensor.items[2], "a stride")});
  }
  return tensors;
}

}  // namespace

std::vector<PickledTensor> read_pickled_tensors(std::string_view pickle, const std::string& name) {
  return Machine(pickle, name).run();
}

}  // namespace cria
