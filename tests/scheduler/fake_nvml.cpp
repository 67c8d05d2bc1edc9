// Three GPUs behind the few NVML functions that are used, for topology_test.

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {
unsigned index_of(void* device) { return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(device)) - 1; }
}  // namespace

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 3;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(static_cast<std::uintptr_t>(index) + 1);
  return 0;
}
int nvmlDeviceGetName(void* device, char* text, unsigned bytes) {
  std::snprintf(text, bytes, "Fake %u", index_of(device));
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* text, unsigned bytes) {
  std::snprintf(text, bytes, "GPU-fake-%u-0000", index_of(device));
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* memory) {
  memory[0] = (index_of(device) + 1ULL) << 30U;
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void* device, char* info) {
  std::memset(info, 0, 68);
  std::snprintf(info + 36, 32, "00000000:1%u:00.0", index_of(device));
  return 0;
}
}
