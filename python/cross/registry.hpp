#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "trireme/python/export.hpp"

namespace trireme::python::cross {

/// What the libraries in this process export, by name. One per process; filled when they load.
///
/// Threading: any thread; entries stay where they are.
/// Errors:    load() throws std::runtime_error, the finders std::out_of_range; both name what there is.
class Registry {
 public:
  struct Function {
    Callable callable;
    std::string library;  ///< empty: part of the program
  };
  struct Actor {
    Constructor constructor;
    std::map<std::string, Callable> methods;
    std::string library;
  };

  static Registry& instance();
  /// Loads a library, once. A name that is taken makes it fail as a whole.
  void load(const std::string& path);
  /// `library`: is loaded when the name is not known yet.
  const Function& function(const std::string& name, const std::string& library = {});
  const Actor& actor(const std::string& name, const std::string& library = {});
  const Callable& method(const std::string& actor, const std::string& name);
  std::vector<std::string> functions();
  std::vector<std::string> actors();

  void add(const std::string& name, Function function);
  void add(const std::string& name, Actor actor);
  void set_constructor(const std::string& actor, Constructor constructor);
  void add_method(const std::string& actor, const std::string& name, Callable method);

 private:
  bool mine(const Actor& actor) const { return actor.library == loading_; }
  void taken(const std::string& what, const std::string& name, const std::string& library);
  void forget(const std::string& library);

  std::mutex load_mutex_;  // held while a library loads, before mutex_
  std::mutex mutex_;
  std::map<std::string, Function> functions_;
  std::map<std::string, Actor> actors_;
  std::map<std::string, std::string> libraries_;  // path to the error it failed with
  std::string loading_;
  std::string problem_;
  std::string skipped_;  // the actor class whose name was taken: its methods are not added to the other
};

/// "name(parameters) -> result"
std::string signature(const std::string& name, const std::vector<std::string>& parameters, const std::string& result);
/// Errors: ConversionError when the number of arguments differs.
void check_count(const std::string& name, const std::vector<std::string>& parameters, std::size_t given);

}  // namespace trireme::python::cross
