#include <unistd.h>

#include <array>
#include <climits>
#include <random>

#include <fmt/format.h>

#include "transport/bootstrap_mpi.hpp"

namespace trireme::transport {
namespace {

Error mpi_error(std::string_view what, int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return make_error(Errc::unavailable, fmt::format("MPI: {} failed: {}", what,
                                                   std::string_view(text.data(), static_cast<std::size_t>(length))));
}

bool mpi_usable() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

class Mpi final : public Bootstrap {
 public:
  explicit Mpi(MPI_Comm own) : comm_(own) {
    int number = 0;
    MPI_Comm_rank(comm_, &number);
    rank_ = static_cast<Rank>(number);
    MPI_Comm_size(comm_, &number);
    size_ = static_cast<std::uint32_t>(number);
  }
  ~Mpi() override { finalize(); }

  /// MPI has no name for the job: rank 0 draws one.
  Status name_session() {
    std::array<char, 32> text{};
    if (rank_ == 0) {
      std::random_device random;
      const auto token = (std::uint64_t{random()} << 32U) | random();
      *fmt::format_to_n(text.data(), text.size() - 1, "mpi-{:016x}", token).out = '\0';
    }
    if (int code = MPI_Bcast(text.data(), static_cast<int>(text.size()), MPI_CHAR, 0, comm_); code != MPI_SUCCESS)
      return mpi_error("MPI_Bcast of the session name", code);
    text.back() = '\0';
    session_ = text.data();
    return {};
  }

  std::string_view name() const override { return "mpi"; }
  Rank rank() const override { return rank_; }
  std::uint32_t size() const override { return size_; }
  std::string session() const override { return session_; }

  Result<std::vector<Bytes>> all_gather(BytesView mine) override {
    if (auto status = usable("all_gather"); !status.ok()) return status.error();
    std::uint64_t bytes = mine.size();
    std::vector<std::uint64_t> sizes(size_);
    if (int code = MPI_Allgather(&bytes, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, comm_); code != MPI_SUCCESS)
      return mpi_error("MPI_Allgather of sizes", code);
    // Every rank sees the same sizes, so all of them take the error or none does.
    std::uint64_t total = 0;
    for (auto size : sizes) total = size > INT_MAX ? UINT64_MAX / 2 : total + size;
    if (total > INT_MAX)
      return make_error(Errc::too_large, fmt::format("bootstrap: {} ranks publish {} bytes in one exchange, MPI counts "
                                                     "up to {}",
                                                     size_, total, INT_MAX));
    std::vector<int> counts(size_);
    std::vector<int> starts(size_);
    int at = 0;
    for (Rank rank = 0; rank < size_; ++rank) {
      counts[rank] = static_cast<int>(sizes[rank]);
      starts[rank] = at;
      at += counts[rank];
    }
    Bytes flat(total);
    if (int code = MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, flat.data(), counts.data(),
                                  starts.data(), MPI_BYTE, comm_);
        code != MPI_SUCCESS)
      return mpi_error("MPI_Allgatherv", code);
    std::vector<Bytes> all(size_);
    for (Rank rank = 0; rank < size_; ++rank)
      all[rank].assign(flat.begin() + starts[rank], flat.begin() + starts[rank] + counts[rank]);
    return all;
  }

  Status barrier() override {
    if (auto status = usable("barrier"); !status.ok()) return status;
    if (int code = MPI_Barrier(comm_); code != MPI_SUCCESS) return mpi_error("MPI_Barrier", code);
    return {};
  }

  void finalize() override {
    if (comm_ == MPI_COMM_NULL) return;
    if (mpi_usable()) MPI_Comm_free(&comm_);
    comm_ = MPI_COMM_NULL;
  }

 private:
  Status usable(std::string_view what) const {
    if (comm_ != MPI_COMM_NULL && mpi_usable()) return {};
    return make_error(Errc::invalid_argument,
                      fmt::format("bootstrap: {} after finalize() or MPI_Finalize; exchange everything before", what));
  }

  MPI_Comm comm_;
  Rank rank_ = 0;
  std::uint32_t size_ = 0;
  std::string session_;
};

}  // namespace

Result<std::unique_ptr<Bootstrap>> bootstrap_mpi(MPI_Comm comm) {
  if (!mpi_usable())
    return make_error(Errc::unavailable,
                      "MPI is not initialised or already finalised: call the runtime between "
                      "MPI_Init and MPI_Finalize");
  if (comm == MPI_COMM_NULL)
    return make_error(Errc::invalid_argument, "the communicator is MPI_COMM_NULL: this rank is no member of it");
  MPI_Comm own = MPI_COMM_NULL;
  if (int code = MPI_Comm_dup(comm, &own); code != MPI_SUCCESS) return mpi_error("MPI_Comm_dup", code);
  MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN);
  auto bootstrap = std::make_unique<Mpi>(own);
  if (auto status = bootstrap->name_session(); !status.ok()) return status.error();
  return std::unique_ptr<Bootstrap>(std::move(bootstrap));
}

}  // namespace trireme::transport
