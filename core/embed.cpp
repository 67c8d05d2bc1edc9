#include "trireme/embed.hpp"

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "base/check.hpp"
#include "core/session.hpp"
#include "transport/bootstrap_mpi.hpp"

namespace trireme {

namespace {

[[noreturn]] void throw_start_error(const Error& error) {
  detail::ErrorInfo info;
  info.code = error.code;
  info.message = error.message;
  throw Exception(std::move(info));
}

/// A barrier that sleeps: MPI's own spins, and the core may be wanted by tasks that others wait for.
void wait_for_all(MPI_Comm comm) {
  constexpr auto kNap = std::chrono::microseconds(200);
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(comm, &request) != MPI_SUCCESS) return;
  int done = 0;
  while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0) std::this_thread::sleep_for(kNap);
}

}  // namespace

struct Embedded::Impl {
  MPI_Comm comm = MPI_COMM_NULL;
  std::unique_ptr<core::Session> session;
  std::vector<Rank> node;
  Rank rank = kNoRank;
  std::uint32_t size = 0;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
  }
};

Embedded::Embedded(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Embedded::Embedded(Embedded&&) noexcept = default;
Embedded& Embedded::operator=(Embedded&& other) noexcept {
  if (this != &other) {
    finish();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
Embedded::~Embedded() { finish(); }

void Embedded::finish() {
  if (!impl_ || !impl_->session) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  TRIREME_CHECK(finalized == 0, "MPI_Finalize was called before the embedded runtime ended: call finish() first");
  // Only now nobody needs another rank any more, so rank 0 may end the job.
  wait_for_all(impl_->comm);
  if (impl_->rank == 0) {
    impl_->session->stop();
  } else {
    impl_->session->serve();
  }
  impl_->session.reset();
  MPI_Comm_free(&impl_->comm);
}

Rank Embedded::rank() const { return impl_->rank; }
std::uint32_t Embedded::size() const { return impl_->size; }
const std::vector<Rank>& Embedded::node_ranks() const { return impl_->node; }

Embedded embed(MPI_Comm comm, const RuntimeOptions& options) {
  if (core::current_or_null() != nullptr)
    throw_start_error({Errc::already_exists, "this process has a runtime already: end it before another is embedded"});
  auto bootstrap = transport::bootstrap_mpi(comm);
  if (!bootstrap) throw_start_error(bootstrap.error());
  auto impl = std::make_unique<Embedded::Impl>();
  auto session = core::Session::start(**bootstrap, options);
  if (!session) throw_start_error(session.error());
  impl->session = std::move(*session);
  impl->rank = impl->session->rank();
  const auto& members = impl->session->members();
  impl->size = static_cast<std::uint32_t>(members.size());
  for (const auto& member : members) {
    if (member.node_id == members[impl->rank].node_id) impl->node.push_back(member.rank);
  }
  MPI_Comm_dup(comm, &impl->comm);
  MPI_Comm_set_errhandler(impl->comm, MPI_ERRORS_RETURN);
  return Embedded(std::move(impl));
}

}  // namespace trireme
