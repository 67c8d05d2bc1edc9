#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/context.hpp"
#include "core/refs.hpp"

namespace trireme::core {

/// What the layers above core ask of another rank beside the work they give it: a function by its key, the restart of
/// an actor's process. Questions and answers are messages that the protocol handles itself, so they wait for no compute
/// thread: user code may hold all of them for as long as it likes. See docs/decisions/011.
///
/// What is asked about is a topic, a number of the layer above, with a handler in every rank that can answer. A handler
/// runs under the token: it never blocks, never runs user code, and does little. It answers at once or later.
///
/// Order: questions of one rank to another are handled in the order in which they were asked, and after the other
/// messages that were sent before.
/// Errors: an answer always comes: peer_lost when the rank is dead or dies first, unavailable when it serves no such
/// topic, shutdown when this rank ends first.
/// Limits: bytes travel in one message; what may be large is asked for in pieces or goes as a reference.
///
/// Threading: under the token, unless a method says otherwise.
class Control {
 public:
  struct Answer {
    std::unique_ptr<detail::ErrorInfo> error;  ///< then there is nothing else
    Bytes bytes;
    std::vector<CellRef> refs;
  };
  using Then = std::function<void(Answer)>;
  struct Question {
    Rank from = kNoRank;
    BytesView bytes;  ///< during the call only
    std::vector<CellRef> refs;
  };
  /// Once; any thread. When the asker is dead by then, nothing happens.
  using Reply = std::function<void(Answer)>;
  /// False: the bytes or references are not what belongs to the topic; its connection is closed.
  using Handler = std::function<bool(Question question, Reply reply)>;

  Control(Context& context, Refs& refs) : context_(context), refs_(refs) {}
  /// Before the first message.
  void serve(std::uint8_t topic, Handler handler) { handlers_[topic] = std::move(handler); }
  /// `then` runs under the token, once. Any thread. This rank may be asked like any other.
  void ask(Rank to, std::uint8_t topic, Bytes bytes, std::vector<CellRef> refs, Then then);

  void on_ask(Rank from, Reader& in);
  void on_answer(Rank from, Reader& in);
  void on_rank_dead(Rank dead);
  /// Questions without an answer: of this rank, and of others.
  std::size_t asked() const { return asked_.size(); }
  std::size_t owed() const { return owed_.size(); }
  /// At the end of the session: nobody answers any more.
  void end();

 private:
  struct Asked {
    Rank to = kNoRank;
    Then then;
  };
  using Owed = std::pair<Rank, std::uint64_t>;
  /// False: the handler refused it.
  bool handle(Owed owed, std::uint8_t topic, BytesView bytes, std::vector<CellRef> refs);
  void answer(Owed owed, Answer answer);
  void heard(std::uint64_t number, Answer answer);
  void fail(std::uint64_t number, Errc code, std::string why);

  Context& context_;
  Refs& refs_;
  std::unordered_map<std::uint8_t, Handler> handlers_;
  std::unordered_map<std::uint64_t, Asked> asked_;
  std::set<Owed> owed_;
  std::uint64_t next_number_ = 0;
  bool ended_ = false;
};

}  // namespace trireme::core
