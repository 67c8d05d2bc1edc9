// A C++ program that calls Python: run by ctest, alone and under mpirun. Each failed check is a line, and status 1.
#include <trireme/python.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace py = trireme::python;
using std::chrono::seconds;

namespace {

int failures = 0;
void check(bool holds, const char* what, const std::string& found = {}) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s %s\n", what, found.c_str());
}

/// The text of what `call` throws.
template <class Error, class F>
std::string error_of(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  } catch (const std::exception& other) {
    return std::string("(another exception) ") + other.what();
  }
  return "(nothing was thrown)";
}
bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

std::int64_t plus_one(std::int64_t value) { return value + 1; }

int run(py::Runtime& rt) {
  const auto module = [](const char* name) { return std::string("program_functions:") + name; };

  check(rt.call<long>(module("echo"), 7L).get(seconds(60)) == 7, "an int comes back");
  check(rt.call<double>(module("echo"), 1.5).get() == 1.5, "a float comes back");
  check(rt.call<std::string>(module("echo"), "text").get() == "text", "a text comes back");
  check(rt.call<bool>(module("echo"), true).get(), "a bool comes back");
  check(rt.call<py::Value>(module("echo"), py::Value()).get().is_none(), "None comes back");
  const std::vector<double> list{1, 2.5};
  check(rt.call<std::vector<double>>(module("echo"), list).get() == list, "a list comes back");
  check(rt.call<long>(module("remote_add"), 5).get() == 15, "a remote function is called as the plain one");

  for (const std::size_t size : {std::size_t{3}, std::size_t{200'000}}) {
    py::NdArray<double> array({size});
    for (auto& x : array.writable()) x = 21;
    const auto back = rt.call<py::NdArray<double>>(module("double"), array).get();
    check(back.size() == size && back[0] == 42 && back[size - 1] == 42, "an array comes back doubled");
  }

  const auto first = rt.call<long>(module("echo"), 30);
  check(rt.call<long>(module("remote_add"), first, first).get() == 60, "references arrive as values");
  std::vector<py::PyRef<long>> many;
  for (int i = 0; i < 500; ++i) many.push_back(rt.call<long>(module("echo"), i));
  for (int i = 0; i < 500; ++i)
    check(many[static_cast<std::size_t>(i)].get() == i, "each of many calls has its result");

  // C++ and Python in one program.
  check(trireme::get(trireme::submit<&plus_one>(std::int64_t{1})) == 2, "C++ tasks run beside");

  auto counter = rt.actor(module("Counter"), 10);
  for (int i = 1; i <= 20; ++i)
    check(counter.call<long>("add", 1).get() == 10 + i, "an actor keeps its state and the order of calls");
  const auto zeros = counter.call<py::NdArray<float>>("zeros", 4).get();
  check(zeros.shape() == std::vector<std::size_t>{2, 4}, "an actor's array has its shape");
  counter.call<void>("add", 1).get();

  auto text = error_of<trireme::TaskError>([&] { rt.call<void>(module("raise_value_error"), "no such place").get(); });
  check(contains(text, "ValueError: no such place"), "Python's exception has type and text:", text);
  text = error_of<py::ConversionError>([&] { rt.call<long>(module("echo"), "x").get(); });
  check(contains(text, "needs int, and got a str"), "a result of another type is named:", text);
  text = error_of<py::ConversionError>([&] { rt.call<py::Value>(module("complain")).get(); });
  check(contains(text, "object") && contains(text, "can cross"), "a result that cannot cross is named:", text);
  text = error_of<trireme::TaskError>([&] { rt.call<void>(module("missing")).get(); });
  check(contains(text, "no attribute 'missing'"), "a function that is not there is named:", text);
  text = error_of<trireme::TaskError>([&] { rt.call<void>("no_such_module:f").get(); });
  check(contains(text, "No module named 'no_such_module'"), "a module that is not there is named:", text);
  text = error_of<trireme::TaskError>([&] { rt.call<void>(module("NUMBER")).get(); });
  check(contains(text, "is a int, no function"), "what is no function is named:", text);
  text = error_of<trireme::Exception>([&] { rt.call<void>("echo").get(); });
  check(contains(text, "named 'module:name'; found 'echo'"), "a name without a module is refused:", text);
  text = error_of<trireme::Exception>([&] { rt.actor(module("Counter"), -1).call<long>("add", 1).get(); });
  check(contains(text, "does not start below 0"), "the constructor's exception is what calls fail with:", text);
  text = error_of<trireme::Exception>([&] { counter.call<long>("leave").get(); });
  check(contains(text, "3"), "the end of the actor's process has its status:", text);
  auto killed = rt.actor(module("Counter"));
  check(killed.call<long>("add", 2).get() == 2, "an actor without arguments");
  killed.kill();
  // In another rank a call that was made at once may still come before the end.
  const auto until = std::chrono::steady_clock::now() + seconds(60);
  do text = error_of<trireme::ActorDiedError>([&] { killed.call<long>("add", 1).get(); });
  while (contains(text, "(nothing") && std::chrono::steady_clock::now() < until);
  check(!contains(text, "(another") && !contains(text, "(nothing"), "a killed actor answers no more:", text);

  std::printf("%u rank(s): %d checks failed\n", rt.size(), failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    py::Runtime rt(argc, argv);
    return run(rt);
  } catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 1;
  }
}
