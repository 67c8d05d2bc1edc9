#include "python/cross/registry.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>

namespace trireme::python {

std::string ElementType::text() const {
  if (kind == 'b') return "bool";
  const char* name = kind == 'i' ? "int" : kind == 'u' ? "uint" : kind == 'f' ? "float" : "complex";
  return name + std::to_string(8 * bytes);
}

std::string Value::describe() const {
  struct Describe {
    std::string operator()(std::nullptr_t) const { return "None"; }
    std::string operator()(bool value) const { return value ? "True" : "False"; }
    std::string operator()(std::int64_t value) const { return fmt::format("the int {}", value); }
    std::string operator()(double value) const { return fmt::format("the float {}", value); }
    std::string operator()(const std::string&) const { return "a str"; }
    std::string operator()(const Bytes&) const { return "bytes"; }
    std::string operator()(const List&) const { return "a list"; }
    std::string operator()(const Tuple&) const { return "a tuple"; }
    std::string operator()(const Dict&) const { return "a dict"; }
    std::string operator()(const AnyArray& array) const {
      return fmt::format("an array of {} with shape ({})", array.type.text(), fmt::join(array.shape, ", "));
    }
  };
  return std::visit(Describe{}, data);
}

namespace cross {

void wrong_type(const std::string& wanted, const Value& value) {
  throw ConversionError(fmt::format("needs {}, and got {}", wanted, value.describe()));
}

void fail_argument(std::size_t index, const ConversionError& error) {
  throw ConversionError(fmt::format("argument {} {}", index + 1, error.what()));
}

void add_function(const std::string& name, Callable function) {
  Registry::instance().add(name, Registry::Function{std::move(function), {}});
}
void add_actor(const std::string& name, Constructor constructor) {
  Registry::instance().add(name, Registry::Actor{std::move(constructor), {}, {}});
}
void set_constructor(const std::string& actor, Constructor constructor) {
  Registry::instance().set_constructor(actor, std::move(constructor));
}
void add_method(const std::string& actor, const std::string& name, Callable method) {
  Registry::instance().add_method(actor, name, std::move(method));
}

std::string signature(const std::string& name, const std::vector<std::string>& parameters, const std::string& result) {
  return fmt::format("{}({}) -> {}", name, fmt::join(parameters, ", "), result);
}

void check_count(const std::string& name, const std::vector<std::string>& parameters, std::size_t given) {
  if (parameters.size() != given)
    throw ConversionError(fmt::format("{}({}) takes {} arguments, and got {}", name, fmt::join(parameters, ", "),
                                      parameters.size(), given));
}

Registry& Registry::instance() {
  // Leaked on purpose: libraries register before main, and tasks run until the last thread ends.
  static auto* instance = new Registry;
  return *instance;
}

void Registry::load(const std::string& path) {
  const std::lock_guard loading(load_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = libraries_.find(path); known != libraries_.end()) {
      if (known->second.empty()) return;
      throw std::runtime_error(known->second);
    }
    loading_ = path;
    problem_.clear();
    skipped_.clear();
  }
  void* before = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  const bool was_there = before != nullptr;
  if (was_there) dlclose(before);
  // Never closed: the registry points into it.
  void* handle = was_there ? before : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const char* failed = handle == nullptr ? dlerror() : nullptr;
  const std::lock_guard lock(mutex_);
  loading_.clear();
  if (handle == nullptr) {
    // Not remembered: it may be built meanwhile.
    throw std::runtime_error(fmt::format("the library {} cannot be loaded: {}", path, failed));
  }
  if (was_there) {
    problem_ = fmt::format(
        "the library {} was loaded by other means before load_library(), so what it exports cannot be "
        "told from the program's own; call load_library() first",
        path);
  } else if (problem_.empty()) {
    bool any = false;
    for (const auto& [name, function] : functions_) any = any || function.library == path;
    for (const auto& [name, actor] : actors_) any = any || actor.library == path;
    if (!any)
      problem_ = fmt::format(
          "the library {} exports nothing: it needs a trireme::python::Library variable that calls "
          "export_function() or export_actor()",
          path);
  }
  libraries_[path] = problem_;
  if (problem_.empty()) return;
  forget(path);
  throw std::runtime_error(problem_);
}

void Registry::forget(const std::string& library) {
  std::erase_if(functions_, [&](const auto& each) { return each.second.library == library; });
  std::erase_if(actors_, [&](const auto& each) { return each.second.library == library; });
}

void Registry::taken(const std::string& what, const std::string& name, const std::string& library) {
  const auto text = fmt::format("{} exports the {} '{}', whose name is taken by {}; give one of them another name",
                                loading_.empty() ? "the program" : "the library " + loading_, what, name,
                                library.empty()       ? "the program"
                                : library == loading_ ? "itself"
                                                      : library);
  // Outside of load() nobody would ask for it.
  if (loading_.empty()) throw std::logic_error(text);
  if (problem_.empty()) problem_ = text;
}

void Registry::add(const std::string& name, Function function) {
  const std::lock_guard lock(mutex_);
  function.library = loading_;
  const auto [at, fresh] = functions_.emplace(name, std::move(function));
  if (!fresh) taken("function", name, at->second.library);
}

void Registry::add(const std::string& name, Actor actor) {
  const std::lock_guard lock(mutex_);
  actor.library = loading_;
  skipped_.clear();
  const auto [at, fresh] = actors_.emplace(name, std::move(actor));
  if (fresh) return;
  skipped_ = name;
  taken("actor class", name, at->second.library);
}

void Registry::set_constructor(const std::string& actor, Constructor constructor) {
  const std::lock_guard lock(mutex_);
  if (actor != skipped_) actors_.at(actor).constructor = std::move(constructor);
}

void Registry::add_method(const std::string& actor, const std::string& name, Callable method) {
  const std::lock_guard lock(mutex_);
  if (actor == skipped_) return;
  auto& into = actors_.at(actor);
  if (!into.methods.emplace(name, std::move(method)).second) taken("method", actor + "." + name, into.library);
}

namespace {
template <class Map>
std::vector<std::string> names(const Map& map) {
  std::vector<std::string> found;
  for (const auto& [name, each] : map) found.push_back(name);
  return found;
}
[[noreturn]] void unknown(const std::string& what, const std::string& name, const std::vector<std::string>& there) {
  throw std::out_of_range(
      fmt::format("no C++ {} '{}' is loaded; there {}: {}", what, name, there.size() == 1 ? "is" : "are",
                  there.empty() ? "none, load_library() loads a library" : fmt::format("{}", fmt::join(there, ", "))));
}
}  // namespace

const Registry::Function& Registry::function(const std::string& name, const std::string& library) {
  for (bool again = !library.empty();; again = false) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto at = functions_.find(name); at != functions_.end()) return at->second;
    }
    if (!again) unknown("function", name, functions());
    load(library);
  }
}

const Registry::Actor& Registry::actor(const std::string& name, const std::string& library) {
  for (bool again = !library.empty();; again = false) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto at = actors_.find(name); at != actors_.end()) return at->second;
    }
    if (!again) unknown("actor class", name, actors());
    load(library);
  }
}

const Callable& Registry::method(const std::string& actor_name, const std::string& name) {
  const auto& known = actor(actor_name).methods;
  const auto at = known.find(name);
  if (at == known.end()) unknown("method of " + actor_name, name, names(known));
  return at->second;
}

std::vector<std::string> Registry::functions() {
  const std::lock_guard lock(mutex_);
  return names(functions_);
}

std::vector<std::string> Registry::actors() {
  const std::lock_guard lock(mutex_);
  return names(actors_);
}

}  // namespace cross
}  // namespace trireme::python
