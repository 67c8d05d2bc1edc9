// heat_file_check FILE SIZE STEPS EVERY RANKS: reads what the heat example wrote and compares it with a serial run.
#include <hdf5.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "check.hpp"

namespace {

void fail(const std::string& what) {
  std::fprintf(stderr, "heat_file_check: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
T attribute(hid_t file, const std::string& object, const char* name, hid_t type) {
  const hid_t attr = H5Aopen_by_name(file, object.c_str(), name, H5P_DEFAULT, H5P_DEFAULT);
  T value{};
  if (attr < 0 || H5Aread(attr, type, &value) < 0) fail("no attribute " + std::string(name) + " of " + object);
  H5Aclose(attr);
  return value;
}
std::uint64_t count_of(hid_t file, const std::string& object, const char* name) {
  return attribute<std::uint64_t>(file, object, name, H5T_NATIVE_UINT64);
}
double number_of(hid_t file, const std::string& object, const char* name) {
  return attribute<double>(file, object, name, H5T_NATIVE_DOUBLE);
}

void expect(std::uint64_t found, std::uint64_t expected, const char* what) {
  if (found != expected)
    fail(std::string(what) + " is " + std::to_string(found) + ", expected " + std::to_string(expected));
}

heat::StepRecord read_step(hid_t file, std::uint64_t step) {
  const auto group = "/steps/" + std::to_string(step);
  heat::StepRecord record;
  record.step = count_of(file, group, "step");
  record.time = number_of(file, group, "time");
  auto& m = record.moments;
  m.cells = count_of(file, group, "cells");
  m.min = number_of(file, group, "min");
  m.max = number_of(file, group, "max");
  m.mean = number_of(file, group, "mean");
  m.squares = number_of(file, group, "variance") * static_cast<double>(m.cells);
  m.total = number_of(file, group, "total");
  const hid_t data = H5Dopen2(file, (group + "/histogram").c_str(), H5P_DEFAULT);
  if (data < 0) fail("no histogram in " + group);
  const hid_t space = H5Dget_space(data);
  expect(static_cast<std::uint64_t>(H5Sget_simple_extent_npoints(space)), heat::kBins, "the number of bins");
  if (H5Dread(data, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, m.histogram.data()) < 0)
    fail("the histogram of " + group + " does not read");
  H5Sclose(space);
  H5Dclose(data);
  return record;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) fail("needs FILE SIZE STEPS EVERY RANKS");
  const auto size = std::strtoull(argv[2], nullptr, 10), steps = std::strtoull(argv[3], nullptr, 10),
             every = std::strtoull(argv[4], nullptr, 10), ranks = std::strtoull(argv[5], nullptr, 10);
  const auto plate = heat::Plate::of(size);
  const auto serial = heat::run_serially(plate, steps, every);

  const hid_t file = H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) fail(std::string("cannot open ") + argv[1]);
  expect(count_of(file, "/", "size"), size, "size");
  expect(count_of(file, "/", "ranks"), ranks, "ranks");
  if (number_of(file, "/", "dt") != plate.dt) fail("dt differs");
  const hid_t group = H5Gopen2(file, "/steps", H5P_DEFAULT);
  H5G_info_t info{};
  if (group < 0 || H5Gget_info(group, &info) < 0) fail("no group /steps");
  expect(info.nlinks, steps / every, "the number of steps");
  for (const auto& expected : serial.steps) {
    if (auto wrong = heat::difference(read_step(file, expected.step), expected); !wrong.empty()) fail(wrong);
  }
  // An insulated plate keeps its heat: holds for the answer itself, not only against our own second computation.
  const double before = heat::moments_of(heat::SerialSolver(plate).field(), size).total;
  const double after = number_of(file, "/steps/" + std::to_string(steps / every * every), "total");
  if (std::abs(after - before) > heat::kTolerance * before) fail("the plate's heat changed");
  H5Gclose(group);
  H5Fclose(file);
  std::printf("%zu steps agree with a serial run\n", serial.steps.size());
}
