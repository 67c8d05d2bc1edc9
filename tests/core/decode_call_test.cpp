// Calls whose arguments are not what the function takes here: each is an error that says so, and leaves nothing behind.
#include <doctest/doctest.h>

#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <stdexcept>

#include "core/decode_call.hpp"
#include "trireme/trireme.hpp"

namespace decode_call_test {

using trireme::Errc;
using trireme::detail::CallBase;
using trireme::detail::CellRef;
using trireme::detail::Codec;
using trireme::detail::Encoder;
using trireme::detail::TaskBase;
using trireme::detail::Value;

struct Record {
  std::string name;
  std::vector<double> values;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& name& values;
  }
};
struct Picky {
  int version = 1;
  std::string rest;  // without it its bytes would simply be copied
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& version& rest;
    if (Archive::is_loading::value && version != 1) throw std::runtime_error("no version " + std::to_string(version));
  }
};

std::size_t measure(int factor, const Record& record) { return record.name.size() * static_cast<std::size_t>(factor); }
int accept(Picky picky) { return picky.version; }
int nothing() { return 0; }
struct Counter {
  int add(int by) { return total += by; }
  int total = 0;
};

/// What a caller would send: each argument behind the byte that says it is a value.
struct Arguments {
  template <class T>
  Arguments& with(const T& argument) {
    Encoder out(value.bytes, value.refs);
    value.bytes.push_back(std::byte{0});
    Codec<T>::encode(out, argument);
    return *this;
  }
  Arguments& with_reference(std::uint64_t index) {
    Encoder out(value.bytes, value.refs);
    value.bytes.push_back(std::byte{1});
    out.varint(index);
    return *this;
  }
  Value value;
};

trireme::core::Context context() {
  trireme::core::Context made;
  made.self = 3;
  made.size = 8;
  made.host_name = "here";
  return made;
}

template <auto F, class Base = TaskBase>
trireme::detail::ErrorInfo error_of(const Value& args) {
  std::unique_ptr<trireme::detail::ErrorInfo> error;
  const auto at = context();
  auto* made = trireme::core::decode_call(at, 5, trireme::detail::Register<F, Base>::entry.id, args, error);
  CHECK(made == nullptr);
  REQUIRE(error != nullptr);
  CHECK(error->rank == 3);
  return *error;
}

void check_says(const trireme::detail::ErrorInfo& error, std::initializer_list<const char*> parts) {
  CHECK(error.code == Errc::type_mismatch);
  for (const char* part : parts) {
    CAPTURE(part);
    CHECK(error.message.find(part) != std::string::npos);
  }
}

TEST_CASE("arguments of the right types decode") {
  std::unique_ptr<trireme::detail::ErrorInfo> error;
  const auto args = Arguments().with(2).with(Record{"abc", {1, 2}}).value;
  const auto at = context();
  auto* made = trireme::core::decode_call(at, 5, trireme::detail::Register<&measure, TaskBase>::entry.id, args, error);
  REQUIRE(made != nullptr);
  CHECK(error == nullptr);
  made->release();
  made->release();  // born with two
}

TEST_CASE("an argument of another type is refused by its number, with what was asked and what is here") {
  // An int where a record should be: its bytes are no archive.
  check_says(
      error_of<&measure>(Arguments().with(2).with(7).value),
      {"rank 5 called", "measure", "on rank 3", "argument 2 of 2", "decode_call_test::Record const&", "0 references"});
  // The first of too few bytes.
  check_says(error_of<&measure>(Arguments().with(char{2}).value), {"argument 1 of 2", "2 bytes of arguments"});
  // A record of a build in which it had no values, in an archive that ends too early.
  check_says(error_of<&measure>(Arguments().with(2).with(std::string("name")).value), {"argument 2 of 2"});
  check_says((error_of<&Counter::add, CallBase>(Arguments().with(char{1}).value)), {"Counter::add", "argument 1 of 1"});
}

TEST_CASE("missing and superfluous arguments are refused") {
  check_says(error_of<&measure>(Value{}), {"argument 1 of 2", "0 bytes"});
  check_says(error_of<&measure>(Arguments().with(2).value), {"argument 2 of 2"});
  check_says(error_of<&measure>(Arguments().with(2).with(Record{}).with(1).value), {"left over after 2 arguments"});
  check_says(error_of<&nothing>(Arguments().with(1).value), {"left over after 0 arguments"});
}

TEST_CASE("a reference that was not sent, and a tag that does not exist, are refused") {
  check_says(error_of<&measure>(Arguments().with_reference(4).value), {"argument 1 of 2", "0 references"});
  Value strange;
  strange.bytes = {std::byte{9}, std::byte{0}};
  check_says(error_of<&measure>(strange), {"argument 1 of 2"});
  // One that was sent is given back with the refused arguments (the address sanitizer would tell).
  auto with_cell = Arguments().with_reference(0).with(char{1}).value;
  with_cell.refs.push_back(trireme::detail::make_plain_cell());
  check_says(error_of<&measure>(with_cell), {"argument 2 of 2", "1 references"});
}

TEST_CASE("what a serialize() throws is the reason") {
  check_says(error_of<&accept>(Arguments().with(Picky{2, ""}).value),
             {"argument 1 of 1", "std::runtime_error: no version 2"});
}

TEST_CASE("every cut of good arguments is refused") {
  const auto whole = Arguments().with(2).with(Record{"abc", {1, 2}}).value;
  for (std::size_t size = 0; size < whole.bytes.size(); ++size) {
    Value cut;
    cut.bytes.assign(whole.bytes.begin(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(size));
    std::unique_ptr<trireme::detail::ErrorInfo> error;
    const auto at = context();
    CAPTURE(size);
    CHECK(trireme::core::decode_call(at, 5, trireme::detail::Register<&measure, TaskBase>::entry.id, cut, error) ==
          nullptr);
    REQUIRE(error != nullptr);
    CHECK(error->code == Errc::type_mismatch);
  }
}

}  // namespace decode_call_test
