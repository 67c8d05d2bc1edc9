#include <cstdio>

#include <trireme/embed.hpp>

namespace {
double sum(const trireme::Array<double>& field) {
  double total = 0;
  for (const double cell : field) total += cell;
  return total;
}
}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  double found = 0;
  {
    auto runtime = trireme::embed(MPI_COMM_WORLD);
    trireme::Array<double> field(1000);
    for (auto& cell : field.writable()) cell = 0.5;
    found = trireme::get(trireme::submit<&sum>(trireme::put(field)));
  }
  MPI_Finalize();
  if (found == 500) return 0;
  std::fprintf(stderr, "sum of the field: found %g, expected 500\n", found);
  return 1;
}
