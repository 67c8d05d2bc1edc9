#include <pmix.h>

#include <cctype>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "transport/bootstrap.hpp"

namespace trireme::transport {
namespace {

Error pmix_error(std::string_view what, pmix_status_t status) {
  return make_error(Errc::unavailable,
                    fmt::format("PMIx: {} failed: {} ({}). Start the ranks with Open MPI's mpirun or with "
                                "`srun --mpi=pmix`; `srun --mpi=list` shows whether Slurm has the plugin",
                                what, PMIx_Error_string(status), status));
}

/// Namespace of the job step, fit for a file name. Open MPI derives it from 16 bits of host name and process id, so
/// two of its jobs may share it; the contact address of their mpirun differs.
std::string session_of(const pmix_proc_t& self) {
  std::string session;
  for (const char* c = self.nspace; *c != '\0'; ++c)
    session += (std::isalnum(static_cast<unsigned char>(*c)) != 0 || *c == '-' || *c == '.') ? *c : '_';
  if (const char* uri = std::getenv("OMPI_MCA_orte_hnp_uri")) {
    std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
    for (const char* c = uri; *c != '\0'; ++c) hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001B3ULL;
    session += fmt::format("-{:08x}", static_cast<std::uint32_t>(hash ^ (hash >> 32U)));
  }
  return session;
}

class Pmix final : public Bootstrap {
 public:
  Pmix(const pmix_proc_t& self, std::uint32_t size) : self_(self), size_(size), session_(session_of(self)) {}
  ~Pmix() override { finalize(); }

  std::string_view name() const override { return "pmix"; }
  Rank rank() const override { return self_.rank; }
  std::uint32_t size() const override { return size_; }
  std::string session() const override { return session_; }

  Result<std::vector<Bytes>> all_gather(BytesView mine) override {
    if (finalized_) return finalized_error("all_gather");
    // A key per round: a value that was put and committed cannot be told from its successor.
    const std::string key = fmt::format("trireme.{}", round_++);
    pmix_value_t value;
    PMIX_VALUE_CONSTRUCT(&value);
    value.type = PMIX_BYTE_OBJECT;
    // PMIx copies the value; the const_cast only satisfies its C signature.
    value.data.bo.bytes = reinterpret_cast<char*>(const_cast<std::byte*>(mine.data()));
    value.data.bo.size = mine.size();
    if (auto status = PMIx_Put(PMIX_GLOBAL, key.c_str(), &value); status != PMIX_SUCCESS)
      return pmix_error(fmt::format("PMIx_Put of {} bytes", mine.size()), status);
    if (auto status = PMIx_Commit(); status != PMIX_SUCCESS) return pmix_error("PMIx_Commit", status);
    if (auto status = fence(true); !status.ok()) return status.error();

    std::vector<Bytes> all(size_);
    for (Rank rank = 0; rank < size_; ++rank) {
      if (rank == self_.rank) {
        all[rank].assign(mine.begin(), mine.end());
        continue;
      }
      auto bytes = fetch(rank, key);
      if (!bytes) return bytes.error();
      all[rank] = std::move(*bytes);
    }
    return all;
  }

  Status barrier() override {
    if (finalized_) return finalized_error("barrier");
    return fence(false);
  }

  void finalize() override {
    if (finalized_) return;
    finalized_ = true;
    // Without the embedded barrier (PMIX_EMBED_BARRIER): nobody has to wait here, since all data of a fence lies with
    // the local server once the fence is over.
    PMIx_Finalize(nullptr, 0);
  }

 private:
  static Error finalized_error(std::string_view what) {
    return make_error(Errc::invalid_argument,
                      fmt::format("bootstrap: {} after finalize(); exchange everything before", what));
  }

  Status fence(bool collect) {
    pmix_proc_t all;
    PMIX_LOAD_PROCID(&all, self_.nspace, PMIX_RANK_WILDCARD);
    pmix_info_t info;
    PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
    const auto status = PMIx_Fence(&all, 1, &info, 1);
    PMIX_INFO_DESTRUCT(&info);
    if (status != PMIX_SUCCESS) return pmix_error("PMIx_Fence", status);
    return {};
  }

  Result<Bytes> fetch(Rank rank, const std::string& key) {
    pmix_proc_t peer;
    PMIX_LOAD_PROCID(&peer, self_.nspace, rank);
    pmix_value_t* value = nullptr;
    const auto status = PMIx_Get(&peer, key.c_str(), nullptr, 0, &value);
    if (status != PMIX_SUCCESS) return pmix_error(fmt::format("PMIx_Get of the address of rank {}", rank), status);
    Result<Bytes> result =
        make_error(Errc::malformed, fmt::format("PMIx: rank {} published a value of another type under {}", rank, key));
    if (value->type == PMIX_BYTE_OBJECT) {
      const auto* begin = reinterpret_cast<const std::byte*>(value->data.bo.bytes);
      result = begin == nullptr ? Bytes{} : Bytes(begin, begin + value->data.bo.size);
    }
    PMIX_VALUE_RELEASE(value);
    return result;
  }

  pmix_proc_t self_;
  std::uint32_t size_;
  std::string session_;
  std::uint64_t round_ = 0;
  bool finalized_ = false;
};

}  // namespace

Result<std::unique_ptr<Bootstrap>> bootstrap_pmix() {
  pmix_proc_t self;
  if (auto status = PMIx_Init(&self, nullptr, 0); status != PMIX_SUCCESS) return pmix_error("PMIx_Init", status);
  pmix_proc_t job;
  PMIX_LOAD_PROCID(&job, self.nspace, PMIX_RANK_WILDCARD);
  pmix_value_t* value = nullptr;
  auto status = PMIx_Get(&job, PMIX_JOB_SIZE, nullptr, 0, &value);
  std::uint32_t size = 0;
  if (status == PMIX_SUCCESS) {
    status = PMIX_ERR_TYPE_MISMATCH;
    if (value->type == PMIX_UINT32) {
      size = value->data.uint32;
      status = PMIX_SUCCESS;
    }
    PMIX_VALUE_RELEASE(value);
  }
  if (status != PMIX_SUCCESS || size == 0 || self.rank >= size) {
    PMIx_Finalize(nullptr, 0);
    return pmix_error(fmt::format("asking for the number of ranks (rank {}, size {})", self.rank, size), status);
  }
  return std::unique_ptr<Bootstrap>(std::make_unique<Pmix>(self, size));
}

}  // namespace trireme::transport
