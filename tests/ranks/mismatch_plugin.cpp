// A library of which rank 0 loads one build and the other ranks another: the same functions and type names, other
// types.
#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <cstring>
#include <string>
#include <trireme/trireme.hpp>

namespace mismatch_plugin {

#if PLUGIN_BUILD == 1
struct Shape {
  int sides = 4;
};
int sides_of(const Shape& shape) { return shape.sides; }
#else
struct Shape {
  double lengths[4] = {1, 2, 3, 4};
};
int sides_of(const Shape& shape) { return static_cast<int>(shape.lengths[3]); }
#endif

struct Record {
  std::string name = "a record";
#if PLUGIN_BUILD == 1
  int count = 1;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& name& count;
  }
#else
  std::vector<std::string> entries;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& entries& name;
  }
#endif
};

int sides(int before, Shape shape, int after) { return before + sides_of(shape) + after; }
std::size_t length(trireme::Ref<int>, Record record) { return record.name.size(); }
Shape make() { return {}; }

struct Counter {
  explicit Counter(int start) : total(start) {}
  explicit Counter(Shape shape) : total(sides_of(shape)) {}
  int add(int by) { return total += by; }
  int add_shape(Shape shape) { return total += sides_of(shape); }
  int total;
};

}  // namespace mismatch_plugin

using namespace mismatch_plugin;

/// Makes one call in `rank` and writes "code: text" of the error that it ends with, or "no error".
extern "C" void mismatch_call(const char* which, trireme::Rank rank, char* text, std::size_t size) {
  trireme::TaskOptions there;
  there.placement = trireme::Placement::on(rank);
  trireme::ActorOptions lives_there;
  lives_there.placement = there.placement;
  const auto is = [&](const char* name) { return std::strcmp(which, name) == 0; };
  try {
    if (is("task")) {
      trireme::get(trireme::submit_with<&sides>(there, 1, Shape{}, 2));
    } else if (is("archive")) {
      trireme::get(trireme::submit_with<&length>(there, trireme::put(1), Record{}));
    } else if (is("result")) {
      trireme::get(trireme::submit_with<&make>(there));
    } else if (is("constructor")) {
      const auto counter = trireme::spawn_with<Counter>(lives_there, Shape{});
      trireme::get(counter.call<&Counter::add>(1));
    } else {
      const auto counter = trireme::spawn_with<Counter>(lives_there, 1);
      if (is("method")) {
        trireme::get(counter.call<&Counter::add_shape>(Shape{}));
      } else {  // the actor is as good after a call that was refused
        const auto refused = counter.call<&Counter::add_shape>(Shape{});
        const int total = trireme::get(counter.call<&Counter::add>(1));
        std::snprintf(text, size, "total %d", total);
        return;
      }
    }
    std::snprintf(text, size, "no error");
  } catch (const trireme::Exception& error) {
    std::snprintf(text, size, "%s: %s", std::string(trireme::to_string(error.code())).c_str(), error.what());
  }
}
