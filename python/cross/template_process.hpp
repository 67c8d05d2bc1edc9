#pragma once

namespace trireme::python::cross {

/// The process that a rank's Python workers are forked from (trireme._zygote), started from a C++ program.
struct TemplateProcess {
  int fd = -1;  ///< the rank's end of the socket to it
  int pid = -1;
};

/// To be called before MPI, UCX or CUDA is initialised. Errors: Exception unavailable.
TemplateProcess start_template_process();
/// Waits for its end, which comes when `fd` is closed.
void join(const TemplateProcess& process);

}  // namespace trireme::python::cross
