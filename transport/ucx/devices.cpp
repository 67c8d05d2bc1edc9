#include "transport/ucx/devices.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

namespace trireme::transport::ucx {

std::vector<std::string> lanes_of(ucp_ep_h endpoint) {
  char* text = nullptr;
  std::size_t size = 0;
  FILE* stream = open_memstream(&text, &size);
  if (stream == nullptr) return {};
  ucp_ep_print_info(endpoint, stream);
  std::fclose(stream);

  // "#   lane[0]:  0:tcp/lo.0 md[0]   -> md[0]/tcp/sysdev[255] am am_bw#0 wireup"
  std::vector<std::string> lanes;
  std::string_view rest(text, size);
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    auto line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    const auto lane = line.find("lane[");
    if (lane == std::string_view::npos) continue;
    line.remove_prefix(line.find(':', lane) + 1);
    const auto number_end = line.find(':');
    if (number_end == std::string_view::npos) continue;
    line.remove_prefix(number_end + 1);
    std::string name(line.substr(0, line.find(' ')));
    if (const auto path = name.rfind('.'); path != std::string::npos && name.find('/') < path) name.resize(path);
    if (std::find(lanes.begin(), lanes.end(), name) == lanes.end()) lanes.push_back(std::move(name));
  }
  std::free(text);
  return lanes;
}

bool all_tcp(const std::vector<std::string>& lanes) {
  const auto is_tcp = [](const std::string& lane) { return lane.starts_with("tcp/"); };
  return !lanes.empty() && std::all_of(lanes.begin(), lanes.end(), is_tcp);
}

std::vector<std::string> rdma_devices() {
  std::vector<std::string> names;
  for (const char* folder : {"/sys/class/infiniband", "/sys/class/cxi"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      names.push_back(entry.path().filename().string());
  }
  return names;
}

std::string tcp_warning(const std::vector<std::string>& lanes, const std::vector<std::string>& rdma) {
  if (rdma.empty() || !all_tcp(lanes)) return {};
  return fmt::format(
      "the machine has RDMA devices ({}), but UCX chose {}. Check `ucx_info -d`, that the device's port "
      "is up, that /dev/infiniband is accessible, `ulimit -l`, and UCX_TLS and UCX_NET_DEVICES",
      fmt::join(rdma, ", "), fmt::join(lanes, ", "));
}

}  // namespace trireme::transport::ucx
