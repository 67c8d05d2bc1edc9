#include "python/cross/template_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "trireme/error.hpp"

namespace trireme::python::cross {

namespace {

/// As trireme._zygote.start() and its _PROGRAM do it; the launcher's variables are taken away in the process itself.
constexpr const char* kProgram = R"(
import gc, os, sys
gc.disable()
register, hooks = os.register_at_fork, []
os.register_at_fork = lambda **given: hooks.append(given)
try:
    import trireme
    from trireme import _zygote
except ImportError as error:
    sys.exit(f"trireme: {sys.executable} cannot import the package trireme ({error}); install it there, or name another "
             f"interpreter in TRIREME_PYTHON")
kept = _zygote.environment()
os.environ.clear()
os.environ.update(kept)
sys.argv.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(trireme.__file__))))
_zygote.main(register, hooks)
)";

[[noreturn]] void fail(std::string what) {
  trireme::detail::ErrorInfo error;
  error.code = Errc::unavailable;
  error.message = std::move(what);
  throw Exception(std::move(error));
}
[[noreturn]] void fail(const std::string& what, int number) {
  fail(fmt::format("{}: {}", what, std::strerror(number)));
}

}  // namespace

TemplateProcess start_template_process() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail("no socket to the Python workers", errno);
  const char* named = std::getenv("TRIREME_PYTHON");
  const std::string interpreter = named != nullptr && *named != '\0' ? named : "python3";
  const char* preload = std::getenv("TRIREME_PRELOAD");
  // Its own end has the number 3 there: dup2 clears close-on-exec, also when it is 3 already.
  constexpr int kTheirs = 3;
  const int theirs = ends[1] == kTheirs ? ends[1] : fcntl(ends[1], F_DUPFD_CLOEXEC, kTheirs + 1);
  const std::string number = std::to_string(kTheirs);
  const std::string self = std::to_string(getpid());
  const char* arguments[] = {
      interpreter.c_str(), "-c", kProgram, number.c_str(), self.c_str(), preload != nullptr ? preload : "", nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, theirs, kTheirs);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A session of its own: Ctrl-C at the terminal reaches the rank, which decides what becomes of the workers.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  TemplateProcess process;
  const int failed = posix_spawnp(&process.pid, interpreter.c_str(), &actions, &attributes,
                                  const_cast<char* const*>(arguments), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (theirs != ends[1]) close(theirs);
  close(ends[1]);
  if (failed != 0) {
    close(ends[0]);
    fail(fmt::format("the Python interpreter '{}' cannot be started (TRIREME_PYTHON names another)", interpreter),
         failed);
  }
  process.fd = ends[0];
  // Its first packet says that it has imported what workers need; the pool takes it from the socket again.
  char first = 0;
  ssize_t got = 0;
  do got = recv(process.fd, &first, 1, MSG_PEEK);
  while (got < 0 && errno == EINTR);
  if (got <= 0) {
    close(process.fd);
    join(process);
    fail(
        fmt::format("the Python interpreter '{}' ended before it was ready for calls; what it wrote says why "
                    "(TRIREME_PYTHON names another interpreter)",
                    interpreter));
  }
  return process;
}

void join(const TemplateProcess& process) {
  while (waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace trireme::python::cross
