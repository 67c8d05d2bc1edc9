#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "transport/ucx/wire.hpp"

namespace trireme::transport::ucx {

struct Peer;

/// A message being sent. UCX refers to it until the send completes.
struct Slot {
  explicit Slot(std::size_t bytes) : data(std::make_unique_for_overwrite<std::byte[]>(bytes)) {}
  Peer* peer = nullptr;
  unsigned id = 0;        ///< active message id
  std::size_t bytes = 0;  ///< of the message, from the start of `data`
  std::unique_ptr<std::byte[]> data;
  Slot* next_free = nullptr;
};

/// Slots of one size, made when first needed and kept.
class SlotPool {
 public:
  /// 4096 slots of 8 KiB: 32 MiB of frames that no device takes is where senders are held back.
  static constexpr std::size_t kSlotsMax = 4096;

  explicit SlotPool(std::size_t slot_bytes) : slot_bytes_(slot_bytes) {}

  /// nullptr when all are in use.
  Slot* take() {
    if (free_ == nullptr) {
      if (slots_.size() == kSlotsMax) return nullptr;
      slots_.push_back(std::make_unique<Slot>(slot_bytes_));
      return slots_.back().get();
    }
    return std::exchange(free_, free_->next_free);
  }
  void give(Slot* slot) { slot->next_free = std::exchange(free_, slot); }

 private:
  std::size_t slot_bytes_;
  std::vector<std::unique_ptr<Slot>> slots_;
  Slot* free_ = nullptr;
};

/// One piece of memory on its way to a reader. UCX refers to the header until the send completes.
struct Piece {
  PieceHeader header;
  Peer* peer = nullptr;
  Piece* next_free = nullptr;
};

/// Pieces made when first needed and kept; each peer has a few at most (reads.cpp).
class PiecePool {
 public:
  Piece& take() {
    if (free_ == nullptr) return *pieces_.emplace_back(std::make_unique<Piece>());
    return *std::exchange(free_, free_->next_free);
  }
  void give(Piece& piece) { piece.next_free = std::exchange(free_, &piece); }

 private:
  std::vector<std::unique_ptr<Piece>> pieces_;
  Piece* free_ = nullptr;
};

}  // namespace trireme::transport::ucx
