// Each rank publishes the node it runs on and reads everybody else's, the way bootstrap exchanges addresses. Rank 0
// prints the nodes; the status is 0 when every rank got an answer from every other and no two share a node.
#include <pmix.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

namespace {

const char kKey[] = "trireme.test.node";

int failed(const char* what, pmix_status_t status) {
  std::fprintf(stderr, "pmix_hello: %s: %s\n", what, PMIx_Error_string(status));
  return 1;
}

pmix_status_t put_node(const char* node) {
  pmix_value_t value;
  std::memset(&value, 0, sizeof value);
  value.type = PMIX_STRING;
  value.data.string = const_cast<char*>(node);
  const pmix_status_t status = PMIx_Put(PMIX_GLOBAL, kKey, &value);
  return status == PMIX_SUCCESS ? PMIx_Commit() : status;
}

pmix_status_t fence_with_data() {
  pmix_info_t info;
  bool collect = true;
  PMIX_INFO_CONSTRUCT(&info);
  PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
  const pmix_status_t status = PMIx_Fence(nullptr, 0, &info, 1);
  PMIX_INFO_DESTRUCT(&info);
  return status;
}

}  // namespace

int main() {
  const char* node = std::getenv("SLURMD_NODENAME");
  if (node == nullptr) {
    std::fprintf(stderr, "pmix_hello: SLURMD_NODENAME is not set; run it with srun --mpi=pmix\n");
    return 1;
  }
  pmix_proc_t me;
  if (const auto status = PMIx_Init(&me, nullptr, 0); status != PMIX_SUCCESS) return failed("init", status);

  pmix_proc_t job = me;
  job.rank = PMIX_RANK_WILDCARD;
  pmix_value_t* size = nullptr;
  if (const auto status = PMIx_Get(&job, PMIX_JOB_SIZE, nullptr, 0, &size); status != PMIX_SUCCESS)
    return failed("job size", status);
  const std::uint32_t ranks = size->data.uint32;
  PMIX_VALUE_RELEASE(size);

  if (const auto status = put_node(node); status != PMIX_SUCCESS) return failed("put", status);
  if (const auto status = fence_with_data(); status != PMIX_SUCCESS) return failed("fence", status);

  std::set<std::string> nodes;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    pmix_proc_t peer = me;
    peer.rank = rank;
    pmix_value_t* value = nullptr;
    if (const auto status = PMIx_Get(&peer, kKey, nullptr, 0, &value); status != PMIX_SUCCESS)
      return failed("get", status);
    nodes.insert(value->data.string);
    PMIX_VALUE_RELEASE(value);
  }
  PMIx_Finalize(nullptr, 0);

  if (me.rank == 0) {
    std::printf("%u ranks on %zu nodes:", ranks, nodes.size());
    for (const auto& name : nodes) std::printf(" %s", name.c_str());
    std::printf("\n");
  }
  return nodes.size() == ranks ? 0 : 1;
}
