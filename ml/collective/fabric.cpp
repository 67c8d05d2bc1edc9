#include "ml/collective/fabric.hpp"

namespace trireme::ml {

MessagePtr Fabric::post_send(std::uint32_t to, Key key, const void* data, std::size_t bytes, std::function<void()> done,
                             bool joined) {
  auto message = std::make_shared<Message>(to, key, const_cast<void*>(data), bytes);  // only read
  message->joined = joined;
  message->on_done = std::move(done);
  if (places[to].node == node) {
    links->send(places[to].local, message);
  } else {
    net->send(message);
  }
  return message;
}

MessagePtr Fabric::post_receive(std::uint32_t from, Key key, void* data, std::size_t bytes, std::function<void()> done,
                                std::optional<Combine> combine) {
  auto message = std::make_shared<Message>(from, key, data, bytes);
  message->combine = combine;
  message->on_done = std::move(done);
  if (places[from].node != node) net->expect(from);
  mailbox.receive(message);
  return message;
}

std::byte* Fabric::scratch(std::size_t bytes) {
  if (bytes > scratch_bytes_) {
    scratch_.reset();
    scratch_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

}  // namespace trireme::ml
