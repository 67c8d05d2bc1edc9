#include <hdf5.h>

#include <stdexcept>
#include <utility>

#include "step_file.hpp"

namespace heat {

namespace {

/// Closes what HDF5 opened.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    if (id < 0) throw std::runtime_error("HDF5 could not make " + what);
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  hid_t id() const { return id_; }
  bool close() { return close_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void attribute(hid_t at, const char* name, hid_t type, const void* value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "a dataspace");
  const Handle attr(H5Acreate2(at, name, type, space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
  if (H5Awrite(attr.id(), type, value) < 0) throw std::runtime_error(std::string("HDF5 could not write ") + name);
}
void attribute(hid_t at, const char* name, double value) { attribute(at, name, H5T_NATIVE_DOUBLE, &value); }
void attribute(hid_t at, const char* name, std::uint64_t value) { attribute(at, name, H5T_NATIVE_UINT64, &value); }

}  // namespace

struct StepFile::Impl {
  explicit Impl(const std::string& path)
      : path(path),
        file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose, "the file " + path),
        steps(H5Gcreate2(file.id(), "steps", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, "the group steps") {}
  std::string path;
  Handle file, steps;
};

StepFile::StepFile(const std::string& path, const RunInfo& info) : impl_(std::make_unique<Impl>(path)) {
  attribute(impl_->file.id(), "size", info.size);
  attribute(impl_->file.id(), "ranks", info.ranks);
  attribute(impl_->file.id(), "dt", info.dt);
}
StepFile::~StepFile() = default;

void StepFile::write(const StepRecord& record) {
  const auto& m = record.moments;
  const auto name = std::to_string(record.step);
  const Handle group(H5Gcreate2(impl_->steps.id(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose,
                     "the group steps/" + name);
  attribute(group.id(), "step", record.step);
  attribute(group.id(), "time", record.time);
  attribute(group.id(), "cells", m.cells);
  attribute(group.id(), "min", m.min);
  attribute(group.id(), "max", m.max);
  attribute(group.id(), "mean", m.mean);
  attribute(group.id(), "variance", m.variance());
  attribute(group.id(), "total", m.total);
  const hsize_t bins = kBins;
  const Handle space(H5Screate_simple(1, &bins, nullptr), H5Sclose, "a dataspace");
  const Handle data(
      H5Dcreate2(group.id(), "histogram", H5T_NATIVE_UINT64, space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
      H5Dclose, "the dataset histogram");
  if (H5Dwrite(data.id(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, m.histogram.data()) < 0)
    throw std::runtime_error("HDF5 could not write the histogram of step " + name + " to " + impl_->path);
}

const std::string& StepFile::path() const { return impl_->path; }

void StepFile::close() {
  const bool group = impl_->steps.close();
  const bool file = impl_->file.close();
  if (!group || !file) throw std::runtime_error("HDF5 could not finish " + impl_->path);
}

}  // namespace heat
