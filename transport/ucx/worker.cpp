#include "transport/ucx/worker.hpp"

#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "base/log.hpp"

namespace trireme::transport::ucx {
namespace {

struct Setting {
  const char* variable;  ///< as the user would set it, after UCX_
  const char* name;      ///< as ucp_config_modify() takes it: without the transport's prefix
  const char* value;
};

// What Trireme wants where the user has said nothing.
constexpr Setting kSettings[] = {
    // Shared memory of UCX either never reports a dead peer or is slow with error handling; without it a rank that is
    // forced apart on one machine takes the path between nodes.
    {"TLS", "TLS", "^sm"},
    // How often UCX probes a silent connection on devices that do not notice a dead peer by themselves (20 s by
    // default).
    {"KEEPALIVE_INTERVAL", "KEEPALIVE_INTERVAL", "500ms"},
    // The same for TCP, where the kernel probes, in whole seconds. It matters only when a host dies without a word: a
    // process that dies has its connections reset at once.
    {"TCP_KEEPIDLE", "KEEPIDLE", "1s"},
    {"TCP_KEEPINTVL", "KEEPINTVL", "1s"},
    {"TCP_KEEPCNT", "KEEPCNT", "5"},
    // With error handling UCX moves large messages as active messages of at most this size; pieces of 64 KiB (the
    // default) cost nearly half of the bandwidth. 512 KiB and what UCX and we put before it. A buffer's pages are
    // touched as far as something arrives in it.
    {"TCP_RX_SEG_SIZE", "RX_SEG_SIZE", "544k"},
    // connect() to a dead host would block the progress thread for minutes.
    {"TCP_CONN_NB", "CONN_NB", "y"},
};

bool set_by_user(const char* variable) {
  return std::getenv((std::string("UCX_") + variable).c_str()) != nullptr ||
         std::getenv((std::string("TRIREME_UCX_") + variable).c_str()) != nullptr;
}

class Config {
 public:
  ~Config() {
    if (config_ != nullptr) ucp_config_release(config_);
  }
  Status read() {
    // With a prefix UCX reads UCX_* first and TRIREME_UCX_* over it.
    if (auto status = ucp_config_read("TRIREME", nullptr, &config_); status != UCS_OK)
      return ucx_error(Errc::unavailable, "reading the UCX_* settings", status);
    for (const auto& setting : kSettings) {
      if (set_by_user(setting.variable)) continue;
      // A UCX of another version may lack a setting: it then keeps its own way.
      if (auto status = ucp_config_modify(config_, setting.name, setting.value); status != UCS_OK)
        TRIREME_LOG(info, "UCX does not take {}={}: {}", setting.name, setting.value, ucs_status_string(status));
    }
    return {};
  }
  const ucp_config_t* get() const { return config_; }

 private:
  ucp_config_t* config_ = nullptr;
};

}  // namespace

Error ucx_error(Errc code, std::string_view what, ucs_status_t status) {
  return make_error(code, fmt::format("UCX: {} failed: {}. `ucx_info -d` lists the devices UCX sees; UCX_TLS and "
                                      "UCX_NET_DEVICES choose among them",
                                      what, ucs_status_string(status)));
}

Result<std::unique_ptr<Worker>> Worker::create(std::uint32_t peers) {
  std::unique_ptr<Worker> worker(new Worker);
  if (auto status = worker->open(peers); !status.ok()) return status.error();
  return worker;
}

Status Worker::open(std::uint32_t peers) {
  Config config;
  if (auto status = config.read(); !status.ok()) return status;

  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS |
                      UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 0;
  params.estimated_num_eps = peers;
  params.name = "trireme";
  if (auto status = ucp_init(&params, config.get(), &context_); status != UCS_OK)
    return ucx_error(Errc::unavailable, "opening a context", status);

  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_EVENTS;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  worker_params.events = UCP_WAKEUP_RMA | UCP_WAKEUP_TX | UCP_WAKEUP_RX;
  if (auto status = ucp_worker_create(context_, &worker_params, &worker_); status != UCS_OK)
    return ucx_error(Errc::unavailable, "creating a worker", status);
  if (auto status = ucp_worker_get_efd(worker_, &event_fd_); status != UCS_OK)
    return ucx_error(Errc::unavailable, "asking the worker for an event descriptor", status);

  ucp_worker_attr_t attr{};
  attr.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  if (auto status = ucp_worker_query(worker_, &attr); status != UCS_OK)
    return ucx_error(Errc::unavailable, "asking the worker for its address", status);
  const auto* begin = reinterpret_cast<const std::byte*>(attr.address);
  address_.assign(begin, begin + attr.address_length);
  ucp_worker_release_address(worker_, attr.address);
  fragment_bytes_max_ = attr.max_am_header;
  return {};
}

Worker::~Worker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

bool Worker::arm() {
  const auto status = ucp_worker_arm(worker_);
  if (status != UCS_OK && status != UCS_ERR_BUSY)
    TRIREME_LOG(error, "UCX cannot arm its event descriptor: {}", ucs_status_string(status));
  return status == UCS_OK;
}

}  // namespace trireme::transport::ucx
