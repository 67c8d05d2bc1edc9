// A library that only rank 0 loads, so that its functions and actors are unknown to the others.
#include <trireme/trireme.hpp>

namespace unknown_plugin {

int twice(int x) { return 2 * x; }
struct Counter {
  int add(int x) { return total += x; }
  int total = 0;
};

}  // namespace unknown_plugin

extern "C" int plugin_task(trireme::Rank rank) {
  trireme::TaskOptions there;
  there.placement = trireme::Placement::on(rank);
  return trireme::get(trireme::submit_with<&unknown_plugin::twice>(there, 21));
}

extern "C" int plugin_actor(trireme::Rank rank) {
  trireme::ActorOptions there;
  there.placement = trireme::Placement::on(rank);
  const auto counter = trireme::spawn_with<unknown_plugin::Counter>(there);
  return trireme::get(counter.call<&unknown_plugin::Counter::add>(42));
}
