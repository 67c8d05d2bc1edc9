#include "trireme/ml/data_parallel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace trireme::ml {
namespace {

[[noreturn]] void wrong(const std::string& text) {
  throw CollectiveError(Errc::invalid_argument, -1, "DataParallel: " + text);
}

bool is_floating(DType type) {
  return type == DType::f16 || type == DType::bf16 || type == DType::f32 || type == DType::f64;
}

}  // namespace

DataParallel::DataParallel(Communicator& group, std::vector<Buffer> parameters, DataParallelOptions options)
    : group_(group), parameters_(std::move(parameters)), places_(parameters_.size()) {
  if (parameters_.empty()) wrong("needs at least one parameter");
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    const Buffer& parameter = parameters_[i];
    if (!is_floating(parameter.type))
      wrong(fmt::format("parameter {} is of {}; gradients are floating point", i, to_string(parameter.type)));
    const std::size_t element = bytes_of(parameter.type);
    if (buckets_.empty() || buckets_.back().type != parameter.type ||
        (buckets_.back().count + parameter.count) * element > options.bucket_bytes) {
      buckets_.emplace_back();
      buckets_.back().type = parameter.type;
    }
    Bucket& bucket = buckets_.back();
    places_[i] = {buckets_.size() - 1, bucket.count, false};
    bucket.count += parameter.count;
    ++bucket.members;
  }
  for (Bucket& bucket : buckets_) {
    bucket.data = std::make_unique<std::byte[]>(bucket.count * bytes_of(bucket.type));
    bucket.missing = bucket.members;
  }
  broadcast();
}

DataParallel::~DataParallel() {
  // The buckets are being written to by the group.
  for (std::size_t i = 0; i < started_; ++i) try {
      if (buckets_[i].work.valid()) buckets_[i].work.wait();
    } catch (const CollectiveError&) {  // it has ended, which is what matters here
    }
}

void DataParallel::broadcast() {
  for (const Buffer& parameter : parameters_) group_.broadcast(parameter, 0);
}

const DataParallel::Place& DataParallel::place(std::size_t parameter) const {
  if (parameter >= places_.size())
    wrong(fmt::format("there is no parameter {}, there are {}", parameter, places_.size()));
  return places_[parameter];
}

Buffer DataParallel::gradient(std::size_t parameter) const {
  const Place& where = place(parameter);
  const Bucket& bucket = buckets_[where.bucket];
  return {bucket.data.get() + where.at * bytes_of(bucket.type), parameters_[parameter].count, bucket.type};
}

void DataParallel::ready(std::size_t parameter) {
  if (place(parameter).ready)
    wrong(fmt::format("the gradient of parameter {} was handed in twice; call wait() after every step", parameter));
  places_[parameter].ready = true;
  --buckets_[places_[parameter].bucket].missing;
  start_full();
}

void DataParallel::ready(std::size_t parameter, ConstBuffer gradient) {
  const Buffer own = this->gradient(parameter);
  if (gradient.count != own.count || gradient.type != own.type)
    wrong(fmt::format("the gradient of parameter {} has {} elements of {}, the parameter {} of {}", parameter,
                      gradient.count, to_string(gradient.type), own.count, to_string(own.type)));
  // Checked before the copy: the bucket may be under way.
  if (place(parameter).ready) return ready(parameter);
  if (own.count != 0) std::memcpy(own.data, gradient.data, own.count * bytes_of(own.type));
  ready(parameter);
}

void DataParallel::start_full() {
  for (; started_ < buckets_.size() && buckets_[started_].missing == 0; ++started_) {
    Bucket& bucket = buckets_[started_];
    if (group_.size() == 1) continue;  // its own gradient is the mean
    bucket.work = group_.start_all_reduce({bucket.data.get(), bucket.count, bucket.type}, ReduceOp::mean);
  }
}

void DataParallel::wait() {
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (!places_[i].ready) wrong(fmt::format("no gradient was handed in for parameter {}", i));
  for (Bucket& bucket : buckets_)
    if (bucket.work.valid()) bucket.work.wait();
  started_ = 0;
  for (Bucket& bucket : buckets_) bucket.missing = bucket.members;
  for (Place& each : places_) each.ready = false;
}

bool DataParallel::is_ready(std::size_t parameter) const { return place(parameter).ready; }

bool DataParallel::is_averaged(std::size_t parameter) const {
  const std::size_t bucket = place(parameter).bucket;
  return bucket < started_ && buckets_[bucket].work.test();
}

bool DataParallel::under_way() const {
  return std::any_of(buckets_.begin(), buckets_.begin() + static_cast<std::ptrdiff_t>(started_),
                     [](const Bucket& bucket) { return !bucket.work.test(); });
}

}  // namespace trireme::ml
