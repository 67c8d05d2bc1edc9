#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "python/cross/pickle.hpp"
#include "trireme/python/ndarray.hpp"

using namespace trireme;
using namespace trireme::python;

namespace {

Bytes packed(const Value& value) {
  const auto written = cross::write_value(value);
  std::vector<BytesView> buffers;
  std::vector<std::uint64_t> sizes;
  for (const auto& array : written.arrays) {
    buffers.emplace_back(array.data.get(), array.bytes());
    sizes.push_back(array.bytes());
  }
  const auto layout = layout_of(written.data.size(), sizes);
  Bytes blob(layout.total);
  pack(layout, written.data, buffers, blob);
  return blob;
}

Bytes of_pickle(std::string_view pickle) {
  const auto layout = layout_of(pickle.size(), {});
  Bytes blob(layout.total);
  pack(layout, std::as_bytes(std::span(pickle.data(), pickle.size())), {}, blob);
  return blob;
}

std::string error_of(BytesView blob) {
  try {
    cross::read_value(blob, nullptr);
  } catch (const ConversionError& error) {
    return error.what();
  }
  return "(it was read)";
}

Value sample() {
  Value::Dict dict;
  dict.emplace_back(std::string("list"), Value::List{std::int64_t{1}, -2.5, nullptr, true});
  dict.emplace_back(std::int64_t{-(1LL << 40)}, Value::Tuple{{std::string("x"), Value::Bytes(3, std::byte{7})}});
  return dict;
}

}  // namespace

TEST_CASE("what is written is read back") {
  const auto back = cross::read_value(packed(sample()), nullptr);
  const auto* dict = back.get_if<Value::Dict>();
  REQUIRE(dict != nullptr);
  REQUIRE(dict->size() == 2);
  const auto* list = (*dict)[0].second.get_if<Value::List>();
  REQUIRE(list != nullptr);
  CHECK(*(*list)[0].get_if<std::int64_t>() == 1);
  CHECK(*(*list)[1].get_if<double>() == -2.5);
  CHECK((*list)[2].is_none());
  CHECK(*(*list)[3].get_if<bool>());
  CHECK(*(*dict)[1].first.get_if<std::int64_t>() == -(1LL << 40));
  const auto* tuple = (*dict)[1].second.get_if<Value::Tuple>();
  REQUIRE(tuple != nullptr);
  CHECK(tuple->items[1].get_if<Value::Bytes>()->size() == 3);
}

TEST_CASE("arrays that C++ wrote are read by C++ in place") {
  const auto blob = std::make_shared<Bytes>(packed(NdArray<float>({2, 2}, std::vector<float>{1, 2, 3, 4}).any()));
  const auto value = cross::read_value(*blob, blob);
  const auto* any = value.get_if<AnyArray>();
  REQUIRE(any != nullptr);
  const auto array = NdArray<float>::of(*any);
  CHECK(array.shape() == std::vector<std::size_t>{2, 2});
  CHECK(array(1, 0) == 3);
  CHECK(any->data.get() > blob->data());
  CHECK(any->data.get() < blob->data() + blob->size());
}

TEST_CASE("a value that is cut off anywhere is refused, and never read past its end") {
  const auto written = cross::write_value(sample());
  for (std::size_t size = 1; size < written.data.size(); ++size) {
    const std::string part(reinterpret_cast<const char*>(written.data.data()), size);
    CHECK(error_of(of_pickle(part)).find("cut off") != std::string::npos);
  }
  CHECK(error_of(Bytes(3)).find("no pickle") != std::string::npos);
}

TEST_CASE("NumPy's pickle of an array is read in place") {
  // pickle.dumps(numpy.arange(2.0).reshape(1, 2), 5, buffer_callback=...)
  std::string pickle("\x80\x05", 2);
  const auto text = [&](std::string_view word) {
    pickle += '\x8c';
    pickle += static_cast<char>(word.size());
    pickle += word;
    pickle += '\x94';
  };
  text("numpy.core.numeric");
  text("_frombuffer");
  pickle += "\x93\x94(\x97\x98";
  text("numpy");
  text("dtype");
  pickle += "\x93";
  text("f8");
  pickle += "\x89\x88\x87R(K\x03";
  text("<");
  pickle += "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff";
  pickle += std::string("K\0tb", 4);
  pickle += "K\x01K\x02\x86";
  text("C");
  pickle += "tR.";
  const double values[] = {3, 4};
  const std::uint64_t sizes[] = {sizeof values};
  const BytesView buffers[] = {std::as_bytes(std::span(values))};
  const auto layout = layout_of(pickle.size(), sizes);
  const auto blob = std::make_shared<Bytes>(layout.total);
  pack(layout, std::as_bytes(std::span(pickle.data(), pickle.size())), buffers, *blob);

  auto value = cross::read_value(*blob, blob);
  const auto* any = value.get_if<AnyArray>();
  REQUIRE(any != nullptr);
  CHECK(any->type == ElementOf<double>::type);
  CHECK(any->shape == std::vector<std::size_t>{1, 2});
  CHECK(any->data.get() == blob->data() + layout.buffers[0].first);
  CHECK(blob.use_count() > 1);  // the array keeps what it lies in
  const auto array = NdArray<double>::of(*any);
  CHECK(array(0, 1) == 4);
}

TEST_CASE("what cannot cross is named") {
  CHECK(error_of(of_pickle("\x80\x05\x8c\x04shop\x8c\x04Item\x93)\x81.")).find("shop.Item") != std::string::npos);
  CHECK(error_of(of_pickle("\x80\x05\x8f.")).find("a set") != std::string::npos);
  CHECK(error_of(of_pickle("\x80\x05\x8a\x09"
                           "\xff\xff\xff\xff\xff\xff\xff\xff\x01."))
            .find("64 bits") != std::string::npos);
  CHECK(error_of(of_pickle("\x80\x05]\x94h\x61.")).find("no pickle") != std::string::npos);
  CHECK(error_of(of_pickle("\x80\x05]\x94\x86.")).find("no pickle") != std::string::npos);
}
