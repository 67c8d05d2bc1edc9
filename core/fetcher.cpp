#include "core/fetcher.hpp"

namespace trireme::core {

TransferFetcher::TransferFetcher(Context& context, objstore::TransferOptions options)
    : context_(context), transfer_(context.self, *context.store, *this, options) {}

void TransferFetcher::fetch(ObjectId id, const Location& from, std::function<void(Status)> done) {
  transfer_.pull(id, {from.rank, from.offset, from.size, from.generation}, false,
                 [done = std::move(done)](Result<objstore::Buffer> result) {
                   if (result)
                     done({});
                   else
                     done(result.error());
                 });
}

void TransferFetcher::get(Rank from, std::uint64_t offset, std::span<std::byte> into, transport::GetDone done) {
  context_.router->get(from, offset, into, std::move(done));
}

void TransferFetcher::send(Rank to, BytesView message) {
  auto out = context_.begin(MessageType::transfer);
  out.raw(message);
  context_.send(to);
}

void TransferFetcher::post(std::function<void()> step) {
  if (context_.host->holds_token()) return step();
  core::post(*context_.host, std::move(step));
}

}  // namespace trireme::core
