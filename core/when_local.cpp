#include "core/when_local.hpp"

#include <atomic>
#include <memory>
#include <utility>

namespace trireme::core {

const detail::ErrorInfo* error_in(const std::vector<CellRef>& cells) {
  for (const auto& cell : cells) {
    if (cell->ready() && cell->form() == detail::CellForm::error) return &cell->error();
  }
  return nullptr;
}

void when_local(Context& context, Refs& refs, std::vector<CellRef> deps,
                std::function<void(const detail::ErrorInfo*)> then) {
  struct Join {
    std::vector<CellRef> deps;
    std::function<void(const detail::ErrorInfo*)> then;
    std::vector<std::unique_ptr<detail::Waiter>> waiters;
    std::atomic<std::size_t> left{1};
    Context* context = nullptr;
  };
  struct JoinWaiter : detail::Waiter {
    std::shared_ptr<Join> join;
  };
  auto join = std::make_shared<Join>();
  join->deps = std::move(deps);
  join->then = std::move(then);
  join->context = &context;
  const auto arrive = [](std::shared_ptr<Join> j) {
    // acq_rel: the last to arrive sees what the others completed.
    if (j->left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (j->context->host->holds_token()) return j->then(error_in(j->deps));
    post(*j->context->host, [j] { j->then(error_in(j->deps)); });
  };
  for (const auto& dep : join->deps) {
    if (dep->ready()) continue;
    auto* waiter = new JoinWaiter;
    waiter->join = join;
    waiter->fire = [](detail::Waiter* w) {
      std::unique_ptr<JoinWaiter> self(static_cast<JoinWaiter*>(w));
      auto j = std::move(self->join);
      if (j->left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      if (j->context->host->holds_token()) return j->then(error_in(j->deps));
      post(*j->context->host, [j] { j->then(error_in(j->deps)); });
    };
    join->left.fetch_add(1, std::memory_order_relaxed);
    if (!dep->add_waiter(waiter)) {
      delete waiter;
      join->left.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    refs.need(dep.get());
  }
  arrive(join);
}

}  // namespace trireme::core
