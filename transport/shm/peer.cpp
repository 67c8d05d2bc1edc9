#include "transport/shm/peer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace trireme::transport {

Bytes ShmAddress::encode() const {
  Bytes bytes;
  Writer out(bytes);
  out.put(pid);
  out.put(segment_fd);
  out.put(bell_fd);
  out.put(memory_fd);
  out.put(memory_bytes);
  out.put(nonce);
  return bytes;
}

Result<ShmAddress> ShmAddress::decode(BytesView bytes) {
  Reader in(bytes);
  ShmAddress address;
  address.pid = in.get<std::int32_t>();
  address.segment_fd = in.get<std::int32_t>();
  address.bell_fd = in.get<std::int32_t>();
  address.memory_fd = in.get<std::int32_t>();
  address.memory_bytes = in.get<std::uint64_t>();
  address.nonce = in.get<std::uint64_t>();
  if (!in.done() || address.pid <= 0 || address.segment_fd < 0 || address.bell_fd < 0)
    return make_error(Errc::malformed, "shm: a peer's address cannot be read");
  return address;
}

void ShmPeer::map_memory() {
  if (address.memory_fd < 0 || address.memory_bytes == 0) return;
  const Fd file = open_of_process(address.pid, address.memory_fd, O_RDONLY);
  struct stat info {};
  // A shorter file would end this process by SIGBUS at the first read behind its end.
  if (!file || ::fstat(file.get(), &info) != 0 || static_cast<std::uint64_t>(info.st_size) < address.memory_bytes)
    return;
  memory = Mapping(file.get(), 0, address.memory_bytes, false);
}

}  // namespace trireme::transport
