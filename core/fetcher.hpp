#pragma once

#include "core/refs.hpp"
#include "objstore/transfer.hpp"

namespace trireme::core {

/// Refs' Fetcher over objstore's transfer protocol. Threading: under the token.
class TransferFetcher final : public Fetcher, private objstore::TransferEnv {
 public:
  explicit TransferFetcher(Context& context, objstore::TransferOptions options = {});
  void fetch(ObjectId id, const Location& from, std::function<void(Status)> done) override;
  Status on_message(Rank from, BytesView message) { return transfer_.on_message(from, message); }
  void on_lost(Rank dead) { transfer_.on_lost(dead); }
  bool idle() const { return transfer_.puller().idle(); }
  /// For leak reports.
  const objstore::Transfer& transfer() const { return transfer_; }

 private:
  void get(Rank from, std::uint64_t offset, std::span<std::byte> into, transport::GetDone done) override;
  void send(Rank to, BytesView message) override;
  bool alive(Rank rank) const override { return context_.alive(rank); }
  void post(std::function<void()> step) override;

  Context& context_;
  objstore::Transfer transfer_;
};

}  // namespace trireme::core
