#include <fmt/format.h>

#include "core/rank_core.hpp"

namespace trireme::core {

Status RankCore::on_message(Rank from, BytesView message) { return dispatch(from, message); }

Status RankCore::dispatch(Rank from, BytesView message) {
  Reader in(message);
  const auto type = in.get<MessageType>();
  const auto now = context_.clock->now();
  switch (type) {
    case MessageType::task:
      tasks_.on_task(from, in);
      break;
    case MessageType::task_done:
      tasks_.on_done(from, in);
      break;
    case MessageType::task_moved:
      tasks_.on_moved(from, in);
      break;
    case MessageType::task_bounced:
      tasks_.on_bounced(from, in);
      break;
    case MessageType::subscribe:
      refs_.on_subscribe(from, in);
      break;
    case MessageType::value:
      refs_.on_value(from, in);
      break;
    case MessageType::borrow:
      refs_.on_borrow(from, in);
      break;
    case MessageType::loan_done:
      refs_.on_loan_done(from, in);
      break;
    case MessageType::release:
      refs_.on_release(from, in);
      break;
    case MessageType::free_result:
      refs_.on_free_result(from, in);
      break;
    case MessageType::transfer:
      return on_transfer ? on_transfer(from, in.rest()) : Status{};
    case MessageType::actor_create:
      actors_.on_create(from, in);
      break;
    case MessageType::actor_call:
      actors_.on_call(from, in);
      break;
    case MessageType::actor_end:
      actors_.on_end(from, in);
      break;
    case MessageType::actor_kill:
      actors_.on_kill(from, in);
      break;
    case MessageType::name_set:
      names_.on_set(from, in);
      break;
    case MessageType::name_reply:
      names_.on_reply(from, in);
      break;
    case MessageType::name_get:
      names_.on_get(from, in);
      break;
    case MessageType::name_forward:
      names_.on_forward(from, in);
      break;
    case MessageType::name_del:
      names_.on_del(from, in);
      break;
    case MessageType::steal:
      return steal_.on_message(from, in.rest(), now);
    case MessageType::group:
      return groups_.on_message(from, in.rest());
    case MessageType::group_lookup:
      groups_.on_lookup(from, in);
      break;
    case MessageType::group_info:
      groups_.on_info(from, in);
      break;
    case MessageType::death_report:
      membership_.on_report(from, in);
      break;
    case MessageType::death:
      membership_.on_death(from, in);
      break;
    case MessageType::seat:
      membership_.on_seat(from, in);
      break;
    case MessageType::seat_known:
      membership_.on_seat_known(from, in);
      break;
    case MessageType::joined:
      membership_.on_joined_message(from, in);
      break;
    case MessageType::cancel:
      cancels_.on_ask(from, in);
      break;
    case MessageType::cancel_answer:
      cancels_.on_answer(from, in);
      break;
    case MessageType::cancel_result:
      cancels_.on_result(from, in);
      break;
    case MessageType::control:
      control_.on_ask(from, in);
      break;
    case MessageType::control_answer:
      control_.on_answer(from, in);
      break;
    case MessageType::report:
      reports_.on_report(from, in);
      break;
    case MessageType::shutdown: {
      if (from != 0) {
        in.fail();
        break;
      }
      membership_.stop();
      steal_.stop();
      reports_.stop();
      context_.begin(MessageType::shutdown_done);
      context_.send(0);
      if (on_shutdown) on_shutdown();
      break;
    }
    case MessageType::shutdown_done: {
      if (context_.self == 0 && !leaving_.empty() && !leaving_[from]) {
        leaving_[from] = true;
        if (--left_ == 0 && shutdown_done_) std::exchange(shutdown_done_, nullptr)();
      }
      break;
    }
    default:
      return make_error(Errc::malformed,
                        fmt::format("rank {} sent a message of unknown type {}", from, static_cast<int>(type)));
  }
  if (!in.ok()) {
    return make_error(Errc::malformed, fmt::format("a message of type {} and {} bytes from rank {} does not decode",
                                                   static_cast<int>(type), message.size(), from));
  }
  return {};
}

}  // namespace trireme::core
