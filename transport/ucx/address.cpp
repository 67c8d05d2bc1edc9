#include "transport/ucx/address.hpp"

#include <fmt/format.h>

namespace trireme::transport::ucx {

Bytes Address::encode() const {
  Bytes out;
  Writer writer(out);
  writer.put(token);
  writer.blob(worker);
  writer.put(memory_base);
  writer.put(memory_bytes);
  writer.blob(memory_key);
  return out;
}

Result<Address> Address::decode(BytesView bytes) {
  Reader reader(bytes);
  Address address;
  address.token = reader.get<std::uint64_t>();
  const auto worker = reader.blob();
  address.memory_base = reader.get<std::uint64_t>();
  address.memory_bytes = reader.get<std::uint64_t>();
  const auto key = reader.blob();
  if (!reader.done() || worker.empty())
    return make_error(Errc::malformed, fmt::format("{} bytes are no UCX address of this build", bytes.size()));
  address.worker.assign(worker.begin(), worker.end());
  address.memory_key.assign(key.begin(), key.end());
  return address;
}

Status ExposedMemory::expose(Worker& worker, std::span<std::byte> memory) {
  TRIREME_CHECK(handle_ == nullptr, "memory is exposed once");
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = memory.data();
  params.length = memory.size();
  if (auto status = ucp_mem_map(worker.context(), &params, &handle_); status != UCS_OK)
    return ucx_error(
        Errc::unavailable,
        fmt::format("registering {} bytes (the locked-memory limit, `ulimit -l`, may be too low)", memory.size()),
        status);
  context_ = worker.context();
  memory_ = memory;
  void* packed = nullptr;
  std::size_t packed_bytes = 0;
  if (auto status = ucp_rkey_pack(context_, handle_, &packed, &packed_bytes); status != UCS_OK) {
    reset();
    return ucx_error(Errc::unavailable, "packing the memory key", status);
  }
  const auto* begin = static_cast<const std::byte*>(packed);
  key_.assign(begin, begin + packed_bytes);
  ucp_rkey_buffer_release(packed);
  return {};
}

void ExposedMemory::reset() {
  if (handle_ != nullptr) ucp_mem_unmap(context_, handle_);
  handle_ = nullptr;
  memory_ = {};
}

ucp_mem_h ExposedMemory::covering(std::span<const std::byte> range) const {
  const bool inside = handle_ != nullptr && range.data() >= memory_.data() &&
                      range.data() + range.size() <= memory_.data() + memory_.size();
  return inside ? handle_ : nullptr;
}

}  // namespace trireme::transport::ucx
