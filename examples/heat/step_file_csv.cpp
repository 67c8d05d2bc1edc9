#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "step_file.hpp"

namespace heat {

struct StepFile::Impl {
  std::string path;
  std::ofstream out;
};

StepFile::StepFile(const std::string& path, const RunInfo& info) : impl_(std::make_unique<Impl>()) {
  impl_->path = std::filesystem::path(path).replace_extension(".csv").string();
  std::printf("this example was built without HDF5 (TRIREME_HDF5): the statistics go to %s\n", impl_->path.c_str());
  impl_->out.open(impl_->path);
  impl_->out.precision(17);
  impl_->out << "# size " << info.size << ", ranks " << info.ranks << ", dt " << info.dt << '\n'
             << "step,time,cells,min,max,mean,variance,total\n";
  if (!impl_->out) throw std::runtime_error("could not write " + impl_->path);
}
StepFile::~StepFile() = default;

void StepFile::write(const StepRecord& record) {
  const auto& m = record.moments;
  impl_->out << record.step << ',' << record.time << ',' << m.cells << ',' << m.min << ',' << m.max << ',' << m.mean
             << ',' << m.variance() << ',' << m.total << '\n';
}

const std::string& StepFile::path() const { return impl_->path; }

void StepFile::close() {
  impl_->out.close();
  if (!impl_->out) throw std::runtime_error("could not finish " + impl_->path);
}

}  // namespace heat
