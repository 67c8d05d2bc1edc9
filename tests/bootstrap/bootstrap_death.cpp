// Rank 1 kills itself after finalize(); the others see it die and end in good order.
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "transport/bootstrap.hpp"

using namespace trireme;
using namespace trireme::transport;

namespace {

int fail(const char* what) {
  std::fprintf(stdout, "FAILED: %s\n", what);
  return 1;
}

}  // namespace

int main() {
  auto detected = bootstrap_detect();
  if (!detected.ok()) return fail(detected.error().message.c_str());
  auto& bootstrap = *detected.value();
  auto mine = local_member();
  mine.rank = bootstrap.rank();
  auto all = bootstrap.all_gather(mine.encode());
  if (!all.ok()) return fail(all.error().message.c_str());
  auto victim = Member::decode(all.value()[1]);
  if (!victim.ok()) return fail(victim.error().message.c_str());
  const int watch = static_cast<int>(syscall(SYS_pidfd_open, victim.value().pid, 0));
  if (watch < 0) return fail("pidfd_open of rank 1");
  // Nobody dies before all have it in sight.
  if (auto status = bootstrap.barrier(); !status.ok()) return fail(status.error().message.c_str());
  bootstrap.finalize();
  if (bootstrap.rank() == 1) raise(SIGKILL);

  pollfd death{watch, POLLIN, 0};
  if (poll(&death, 1, -1) != 1) return fail("poll");
  // mpirun has noticed once it has taken the dead process's status.
  while (kill(victim.value().pid, 0) == 0) usleep(1000);
  std::fprintf(stdout, "rank %u outlives rank 1\n", bootstrap.rank());
  return 0;
}
