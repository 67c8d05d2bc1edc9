#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <vector>

#include "python/native/channel.hpp"
#include "python/native/wire.hpp"
#include "python/native/worker_api.hpp"

namespace trireme::python {

/// A rank's end of one worker, by hand. The worker's end is in this process as well.
///
/// Threading: one owner.
class FakeRank {
 public:
  static constexpr std::size_t kArenaBytes = 1U << 20;

  FakeRank()
      : file_(*MemoryFile::create("test-worker", kWorkerBytes)),
        board_(*MemoryFile::create("test-board", sizeof(Board))),
        arena_(*MemoryFile::create("test-arena", kArenaBytes)) {
    int bell[2];
    if (::pipe2(bell, O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    bell_read_ = transport::Fd(bell[0]);
    bell_write_ = transport::Fd(bell[1]);
    end_ = RankEnd(file_.memory.bytes(), nullptr, 0);
  }

  WorkerCommand command() const {
    WorkerCommand command;
    command.worker = 7;
    command.rank = 3;
    command.size = 4;
    command.rank_pid = ::getpid();
    command.file_fd = file_.fd.get();
    command.board_fd = board_.fd.get();
    command.bell_fd = bell_read_.get();
    command.arena_fd = arena_.fd.get();
    command.arena_bytes = kArenaBytes;
    return command;
  }
  RankEnd& end() { return end_; }
  std::span<std::byte> arena() const { return arena_.memory.bytes(); }
  std::span<std::byte> memory() const { return file_.memory.bytes(); }

  /// Blocks until the worker has sent a frame.
  Bytes take() {
    for (;;) {
      end_.flush();
      const auto frame = end_.receive();
      if (!frame.empty()) return Bytes(frame.begin(), frame.end());
      std::this_thread::yield();
    }
  }
  bool has_frame() {
    const auto frame = end_.receive();
    if (frame.empty()) return false;
    unexpected_.assign(frame.begin(), frame.end());
    return true;
  }
  template <class Write>
  void send(Frame kind, Write write) {
    Bytes frame;
    auto out = begin(frame, kind);
    write(out);
    end_.send(frame);
  }
  /// A positive answer.
  template <class Write>
  void reply(std::uint64_t request, Write write) {
    send(Frame::reply, [&](Writer& out) {
      out.varint(request);
      out.put(Answer::ok);
      write(out);
    });
  }

  static Bytes packed(std::string_view data, const std::vector<Bytes>& buffers = {}) {
    std::vector<std::uint64_t> sizes;
    std::vector<BytesView> views;
    for (const auto& buffer : buffers) {
      sizes.push_back(buffer.size());
      views.emplace_back(buffer);
    }
    const auto layout = layout_of(data.size(), sizes);
    Bytes blob(layout.total);
    pack(layout, std::as_bytes(std::span(data)), views, blob);
    return blob;
  }
  /// A task without dependencies whose arguments are `args`.
  void send_task(std::uint64_t token, std::int32_t slot, std::string_view args,
                 const std::vector<std::uint64_t>& refs = {}) {
    end_.page().slots[slot].store(WorkerPage::kQueued);
    send(Frame::work, [&](Writer& out) {
      out.put(token);
      out.put(slot);
      out.put(WorkKind::task);
      out.varint(0);
      out.varint(1);
      out.put(std::uint8_t{0});
      out.varint(0);
      out.text("meta");
      out.text("name");
      out.blob(packed(args));
      out.varint(0);
      out.varint(refs.size());
      for (const auto handle : refs) out.varint(handle);
    });
  }

 private:
  MemoryFile file_, board_, arena_;
  transport::Fd bell_read_, bell_write_;
  RankEnd end_;
  Bytes unexpected_;
};

inline std::string text_of(const HeldValue& value) {
  const auto layout = unpack(value.blob);
  if (!layout) return "no packed value";
  return {reinterpret_cast<const char*>(value.blob.data() + layout->data), layout->data_size};
}

}  // namespace trireme::python
