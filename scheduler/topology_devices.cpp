#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <memory>

#include "scheduler/topology.hpp"

namespace trireme::scheduler {
namespace {

namespace fs = std::filesystem;

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int read_numa(const fs::path& path) {
  std::ifstream file(path);
  int numa = -1;
  return file >> numa ? numa : -1;
}

/// The few parts of NVML's stable C interface that are used (nvml.h is not needed to build).
struct Nvml {
  using Handle = void*;
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Pci {  // nvmlPciInfo_t
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
  };
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, Handle*) = nullptr;
  int (*name)(Handle, char*, unsigned) = nullptr;
  int (*uuid)(Handle, char*, unsigned) = nullptr;
  int (*memory)(Handle, Memory*) = nullptr;
  int (*pci)(Handle, Pci*) = nullptr;

  bool load(void* library) {
    const auto find = [library](auto& function, const char* symbol) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    return find(init, "nvmlInit_v2") && find(shutdown, "nvmlShutdown") && find(count, "nvmlDeviceGetCount_v2") &&
           find(by_index, "nvmlDeviceGetHandleByIndex_v2") && find(name, "nvmlDeviceGetName") &&
           find(uuid, "nvmlDeviceGetUUID") && find(memory, "nvmlDeviceGetMemoryInfo") &&
           find(pci, "nvmlDeviceGetPciInfo_v3");
  }
};

Gpu read_gpu(const Nvml& nvml, unsigned index, Nvml::Handle handle) {
  Gpu gpu;
  gpu.index = static_cast<int>(index);
  char text[256] = {};
  if (nvml.name(handle, text, sizeof text - 1) == 0) gpu.name = text;
  if (nvml.uuid(handle, text, sizeof text - 1) == 0) gpu.uuid = text;
  Nvml::Memory memory{};
  if (nvml.memory(handle, &memory) == 0) gpu.memory_bytes = memory.total;
  Nvml::Pci pci{};
  if (nvml.pci(handle, &pci) == 0) {
    gpu.pci = pci.bus_id;
    // NVML writes an eight-digit domain in capitals, sysfs a four-digit one in small letters.
    std::string address = gpu.pci;
    std::transform(address.begin(), address.end(), address.begin(), [](unsigned char c) { return std::tolower(c); });
    if (address.size() > 12) address.erase(0, address.size() - 12);
    gpu.numa = read_numa(fs::path("/sys/bus/pci/devices") / address / "numa_node");
  }
  return gpu;
}

/// As CUDA reads the variable: numbers or beginnings of UUIDs; the list ends at the first that names no GPU.
std::vector<Gpu> choose(const std::vector<Gpu>& all, std::string_view visible) {
  std::vector<Gpu> chosen;
  while (!visible.empty()) {
    const auto comma = visible.find(',');
    std::string_view entry = visible.substr(0, comma);
    visible = comma == std::string_view::npos ? std::string_view{} : visible.substr(comma + 1);
    while (!entry.empty() && entry.front() == ' ') entry.remove_prefix(1);
    while (!entry.empty() && entry.back() == ' ') entry.remove_suffix(1);
    const bool digits =
        !entry.empty() && std::all_of(entry.begin(), entry.end(), [](unsigned char c) { return std::isdigit(c); });
    const auto found = std::find_if(all.begin(), all.end(), [&](const Gpu& gpu) {
      return digits ? std::to_string(gpu.index) == entry
                    : entry.size() > 4 && std::string_view(gpu.uuid).substr(0, entry.size()) == entry;
    });
    if (found == all.end()) break;
    chosen.push_back(*found);
  }
  return chosen;
}

}  // namespace

std::vector<RdmaDevice> find_rdma_devices(const std::string& root) {
  std::vector<RdmaDevice> devices;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root, ignored)) {
    RdmaDevice device;
    device.name = entry.path().filename();
    device.numa = read_numa(entry.path() / "device" / "numa_node");
    for (const auto& port : fs::directory_iterator(entry.path() / "ports", ignored)) {
      // "4: ACTIVE"
      const bool up = read_line(port.path() / "state").find("ACTIVE") != std::string::npos;
      if (device.active && !up) continue;
      device.active = up;
      device.link = read_line(port.path() / "link_layer");
      device.rate = read_line(port.path() / "rate");
    }
    devices.push_back(std::move(device));
  }
  std::sort(devices.begin(), devices.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return devices;
}

std::vector<Gpu> find_gpus(const std::string& library, const char* visible) {
  std::vector<Gpu> all;
  // Never unloaded: the driver's library does not like it, and CUDA needs it later anyway.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  Nvml nvml;
  if (handle == nullptr || !nvml.load(handle) || nvml.init() != 0) return all;
  unsigned count = 0;
  if (nvml.count(&count) != 0) count = 0;
  for (unsigned i = 0; i < count; ++i) {
    Nvml::Handle device = nullptr;
    if (nvml.by_index(i, &device) == 0) all.push_back(read_gpu(nvml, i, device));
  }
  nvml.shutdown();
  return visible == nullptr ? all : choose(all, visible);
}

}  // namespace trireme::scheduler
