#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/control.hpp"
#include "tests/sim/program.hpp"

/// Questions of one rank to another beside the work it gives it (core::Control), as the layers above core ask them.
/// Here: a value and references; the answer has the references again, and a new object that the value decides.
namespace trireme::sim {

struct Inquiry {
  std::uint64_t value = 0;
  Nanos delay = 0;  ///< below 0: it is answered in the handler
};

/// One that was asked. Lifetime: the answer keeps it too.
struct Inquired {
  scheduler::WaitPoint point;
  core::Control::Answer answer;
};
std::shared_ptr<Inquired> inquire(Rank to, Inquiry inquiry, const std::vector<Ref<Blob>>& refs);
/// On a strand: waits for the answer and checks it; the new object. Errors: Exception as the answer has it.
Ref<Blob> answer_of(Inquired& asked, Inquiry inquiry, Rank to, const std::vector<Ref<Blob>>& refs);
std::uint64_t eval_inquiry(Inquiry inquiry, Rank to);
/// A task: another rank asks.
Ref<Blob> inquire_for(Order order, std::uint32_t to, Inquiry inquiry, std::vector<Ref<Blob>> refs);

/// The rank answers; before the first message.
void serve_inquiries(World& world, Rank self, core::RankCore& core);

}  // namespace trireme::sim
