#pragma once

namespace trireme::core {

class RankCore;

/// The runtime that the calling thread works for: set on compute threads and in simulation, else the process's one.
RankCore* current_or_null();
/// The same, or an Exception that says to make a Runtime first.
RankCore& current();
/// For this thread; returns what was set before.
RankCore* set_current(RankCore* core);
/// For threads of the process that have none of their own.
void set_process_core(RankCore* core);

}  // namespace trireme::core
