#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/refs.hpp"

namespace trireme::core {

/// Names of actors, kept by rank 0. An entry is weak: it goes with the actor.
///
/// Threading: under the token. Errors: already_exists, not_found (with the names there are), type_mismatch.
class Names {
 public:
  using Done = std::function<void(CellRef actor, const detail::ErrorInfo* error)>;
  Names(Context& context, Refs& refs) : context_(context), refs_(refs) {}

  void set(const std::string& name, const std::string& type, Cell* actor, Done done);
  void get(const std::string& name, const std::string& type, Done done);
  void remove(const std::string& name);

  void on_set(Rank from, Reader& in);
  void on_get(Rank from, Reader& in);
  void on_forward(Rank from, Reader& in);
  void on_reply(Rank from, Reader& in);
  void on_del(Rank from, Reader& in);
  void on_rank_dead(Rank dead);
  /// Rank 0.
  std::size_t known() const { return names_.size(); }
  /// Questions without an answer.
  std::size_t waiting() const { return waiting_.size(); }

 private:
  struct Named {
    ObjectId id;
    std::string type;
  };
  void reply(Rank to, std::uint64_t token, Cell* actor, const detail::ErrorInfo* error);
  void resolve(std::uint64_t token, CellRef actor, const detail::ErrorInfo* error);
  /// An answer that is awaited; `type` and `name` of a look-up, empty of anything else.
  struct Waiting {
    Done done;
    std::string name, type;
  };
  std::uint64_t expect(Waiting waiting) {
    waiting_.emplace(++next_token_, std::move(waiting));
    return next_token_;
  }
  void ask(std::uint64_t token, const std::string& name, const std::string& type);
  void handle_set(Rank from, std::uint64_t token, std::string name, Named named);
  void handle_get(Rank from, std::uint64_t token, const std::string& name, const std::string& type);
  void handle_forward(Rank requester, std::uint64_t token, ObjectId id);

  Context& context_;
  Refs& refs_;
  std::map<std::string, Named> names_;  // rank 0
  std::map<std::uint64_t, Waiting> waiting_;
  std::uint64_t next_token_ = 0;
};

}  // namespace trireme::core
