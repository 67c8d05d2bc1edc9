#include "ml/collective/nccl_agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>

namespace trireme::ml::detail {

bool wait_until(Work& work, Nanos until) {
  while (!work.test()) {
    if (SystemClock::read() >= until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  work.wait();
  return true;
}

NcclAgreement::Id NcclAgreement::agree(Communicator& control, const std::string& name,
                                       const std::function<Id()>& prepare, Nanos until) {
  try {
    mine_.id = prepare();
    mine_.ready = 1;
  } catch (const std::exception& error) {
    const std::string why = error.what();
    std::copy_n(why.begin(), std::min(why.size(), mine_.why.size() - 1), mine_.why.begin());
  }
  // Also when this member cannot take part: the others would wait for it inside NCCL, which never gives up.
  all_.resize(control.size());
  Work gathering = control.start_all_gather(ConstBuffer{&mine_, sizeof(Card), DType::u8},
                                            Buffer{all_.data(), all_.size() * sizeof(Card), DType::u8});
  if (!wait_until(gathering, until))
    throw CollectiveError(Errc::timeout, -1,
                          fmt::format("group '{}', member {}: not all {} members agreed on NCCL's id in time", name,
                                      control.rank(), control.size()));
  for (std::size_t member = 0; member < all_.size(); ++member)
    if (all_[member].ready == 0)
      throw CollectiveError(Errc::unavailable, static_cast<int>(member),
                            fmt::format("group '{}': member {} of {} cannot use NCCL: {}", name, member, all_.size(),
                                        all_[member].why.data()));
  return all_[0].id;
}

}  // namespace trireme::ml::detail
