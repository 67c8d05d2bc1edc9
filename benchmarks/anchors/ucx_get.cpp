// Plain UCX: one process gets pieces of the other's memory over and over. The place in source and target moves on
// with every get through a large window, so that neither side works from its cache.
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "benchmarks/harness/harness.hpp"
#include "benchmarks/harness/process.hpp"

namespace {

using namespace trireme::bench;

void must(ucs_status_t status, const char* what) {
  if (status == UCS_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, ucs_status_string(status));
  std::exit(1);
}

void send_all(int fd, const void* data, std::size_t bytes) {
  if (send(fd, data, bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes)) std::exit(1);
}

void receive_all(int fd, void* data, std::size_t bytes) {
  if (recv(fd, data, bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes)) std::exit(1);
}

void send_blob(int fd, const void* data, std::uint64_t bytes) {
  send_all(fd, &bytes, sizeof bytes);
  send_all(fd, data, bytes);
}

std::vector<char> receive_blob(int fd) {
  std::uint64_t bytes = 0;
  receive_all(fd, &bytes, sizeof bytes);
  std::vector<char> blob(bytes);
  receive_all(fd, blob.data(), bytes);
  return blob;
}

/// Context, worker and a filled, registered window.
class Side {
 public:
  explicit Side(std::size_t window) : window_(window) {
    ucp_config_t* config = nullptr;
    must(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read");
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_RMA;
    must(ucp_init(&params, config, &context_), "ucp_init");
    ucp_config_release(config);
    ucp_worker_params_t worker_params{};
    worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
    must(ucp_worker_create(context_, &worker_params, &worker_), "ucp_worker_create");
    memory_ = static_cast<char*>(shared_memory(window));
    std::memset(memory_, 1, window);
    ucp_mem_map_params_t map{};
    map.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
    map.address = memory_;
    map.length = window;
    must(ucp_mem_map(context_, &map, &handle_), "ucp_mem_map");
  }
  ~Side() {
    ucp_mem_unmap(context_, handle_);
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  void send_address(int fd) {
    ucp_address_t* address = nullptr;
    std::size_t bytes = 0;
    must(ucp_worker_get_address(worker_, &address, &bytes), "ucp_worker_get_address");
    send_blob(fd, address, bytes);
    ucp_worker_release_address(worker_, address);
  }

  void send_key(int fd) {
    void* key = nullptr;
    std::size_t bytes = 0;
    must(ucp_rkey_pack(context_, handle_, &key, &bytes), "ucp_rkey_pack");
    send_blob(fd, key, bytes);
    ucp_rkey_buffer_release(key);
    send_all(fd, &memory_, sizeof memory_);
  }

  ucp_ep_h connect(const std::vector<char>& address) {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    ucp_ep_h endpoint = nullptr;
    must(ucp_ep_create(worker_, &params, &endpoint), "ucp_ep_create");
    return endpoint;
  }

  void wait(ucs_status_ptr_t request) {
    if (request == nullptr) return;
    if (UCS_PTR_IS_ERR(request)) must(UCS_PTR_STATUS(request), "UCX operation");
    while (ucp_request_check_status(request) == UCS_INPROGRESS) ucp_worker_progress(worker_);
    must(ucp_request_check_status(request), "UCX operation");
    ucp_request_free(request);
  }

  void progress() { ucp_worker_progress(worker_); }
  char* memory() { return memory_; }
  std::size_t window() const { return window_; }

 private:
  std::size_t window_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_mem_h handle_ = nullptr;
  char* memory_ = nullptr;
};

/// Answers gets by making progress until the other side says that it is done.
void serve(int fd, std::size_t window) {
  pin_to_core(1);
  Side side(window);
  side.send_address(fd);
  side.send_key(fd);
  for (;;) {
    for (int i = 0; i < 1000; ++i) side.progress();
    char done = 0;
    if (recv(fd, &done, 1, MSG_DONTWAIT) >= 0) return;
  }
}

double pull(int fd, std::size_t window, std::size_t size, std::size_t depth) {
  pin_to_core(0);
  Side side(window);
  const std::vector<char> address = receive_blob(fd);
  const std::vector<char> key = receive_blob(fd);
  char* source = nullptr;
  receive_all(fd, &source, sizeof source);
  ucp_ep_h endpoint = side.connect(address);
  ucp_rkey_h rkey = nullptr;
  must(ucp_ep_rkey_unpack(endpoint, key.data(), &rkey), "ucp_ep_rkey_unpack");

  std::vector<ucs_status_ptr_t> flying(depth, nullptr);
  std::size_t offset = 0;
  const ucp_request_param_t param{};
  // The connection is set up and its socket buffers grown before anything is measured.
  for (int i = 0; i < 16; ++i) {
    side.wait(ucp_get_nbx(endpoint, side.memory(), std::min<std::size_t>(side.window(), 4U << 20U),
                          reinterpret_cast<std::uint64_t>(source), rkey, &param));
  }
  const double nanos = nanos_per_op(0.4, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      ucs_status_ptr_t& slot = flying[i % depth];
      side.wait(slot);
      if (offset + size > side.window()) offset = 0;
      slot = ucp_get_nbx(endpoint, side.memory() + offset, size, reinterpret_cast<std::uint64_t>(source) + offset, rkey,
                         &param);
      offset += size;
    }
    for (ucs_status_ptr_t& slot : flying) {
      side.wait(slot);
      slot = nullptr;
    }
  });
  ucp_rkey_destroy(rkey);
  ucp_request_param_t close{};
  close.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  close.flags = 0;
  side.wait(ucp_ep_close_nbx(endpoint, &close));
  send_all(fd, "x", 1);
  return static_cast<double>(size) / nanos;
}

std::optional<double> get(const Arguments& arguments) {
  const std::size_t size = arguments.number("size", 1U << 20U);
  const std::size_t depth = arguments.number("depth", 1);
  const std::size_t window = std::max<std::size_t>(size, arguments.number("window", 512U << 20U));
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) std::exit(1);
  double result = 0;
  run_pair(
      [&] {
        close(fds[1]);  // so that a dead partner is an end of file here, not a hang
        result = pull(fds[0], window, size, depth);
      },
      [&] {
        close(fds[0]);
        serve(fds[1], window);
      });
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("get", "GB/s", get);
  return program.run(argc, argv);
}
