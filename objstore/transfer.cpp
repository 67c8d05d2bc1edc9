#include "objstore/transfer.hpp"

namespace trireme::objstore {

Transfer::Transfer(Rank self, Store& store, TransferEnv& env, TransferOptions options)
    : planner_(options, [&env](Rank to, const TransferMessage& message) { env.send(to, message.encode()); }),
      puller_(self, store, env, options) {}

Status Transfer::on_message(Rank from, BytesView bytes) {
  auto message = TransferMessage::decode(bytes);
  if (!message) return message.error();
  using Kind = TransferMessage::Kind;
  switch (message->kind) {
    case Kind::want:
    case Kind::failed:
    case Kind::done:
    case Kind::gave_up:
    case Kind::settled:
      planner_.on_message(from, *message);
      break;
    default:
      puller_.on_message(from, *message);
  }
  return {};
}

void Transfer::on_lost(Rank dead) {
  planner_.on_lost(dead);
  puller_.on_lost(dead);
}

}  // namespace trireme::objstore
