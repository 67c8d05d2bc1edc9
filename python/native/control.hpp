#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/control.hpp"
#include "core/session.hpp"

namespace trireme::python {

class Pool;

/// What ranks that run Python ask of each other beside calls; numbers travel.
enum class Topic : std::uint8_t {
  exported = 1,     ///< a piece of what the rank exported under a key
  restart = 2,      ///< the process of an actor that the rank hosts is to start again
  actor = 3,        ///< a handle on the actor whose creation has that key
  stream_item = 4,  ///< a value for a stream that the rank consumes; answered once there is room for another
};

/// Functions and classes by key, as ranks made them known. One per process. Threading: any thread.
class ExportTable {
 public:
  using Blob = std::shared_ptr<const Bytes>;
  static ExportTable& instance();
  void set(std::string key, Bytes blob);
  /// nullptr: nobody set it.
  Blob find(const std::string& key);
  void clear();

 private:
  std::mutex mutex_;
  std::map<std::string, Blob> blobs_;
};

/// Which of this process's actors a key names, so that an actor can be given a handle on itself.
class ActorTable {
 public:
  static ActorTable& instance();
  void add(std::uint64_t key, ObjectId id);
  ObjectId find(std::uint64_t key);

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, ObjectId> ids_;
};

/// Answers the others' questions. Before the first message.
void serve_control(core::RankCore& core, Pool& pool);

/// What `rank` exported under the key, null with an error; then it is in the table of this process too. `then` runs
/// under the token.
void fetch_export(core::RankCore& core, Rank rank, const std::string& key,
                  std::function<void(ExportTable::Blob, const detail::ErrorInfo*)> then);
/// Any rank: the actor's process is killed and started again.
void restart_everywhere(core::RankCore& core, Pool& pool, const detail::CellRef& actor);
/// Under the token: a handle on the actor whose creation has that key, which `creator` drew; an empty one when it is
/// gone.
void actor_of_key(core::RankCore& core, Rank creator, std::uint64_t key, std::function<void(detail::CellRef)> then);
/// Hands a value to a stream of another rank. `done` as Stream::push() has it.
void push_elsewhere(core::RankCore& core, ObjectId stream, std::uint64_t index, detail::CellRef item,
                    std::function<void(bool)> done);

}  // namespace trireme::python
