// The program that does nothing: what the launcher and MPI cost before anyone else may start.
#include <mpi.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Finalize();
}
