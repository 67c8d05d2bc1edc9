#include "transport/ucx/devices.hpp"

#include <doctest/doctest.h>

using trireme::transport::ucx::tcp_warning;

TEST_CASE("TCP on a machine with RDMA devices is a warning that names both") {
  const auto warning = tcp_warning({"tcp/eth0", "tcp/lo"}, {"mlx5_0", "mlx5_1"});
  CHECK(warning.find("mlx5_0, mlx5_1") != std::string::npos);
  CHECK(warning.find("tcp/eth0, tcp/lo") != std::string::npos);
}

TEST_CASE("no warning without RDMA devices, with RDMA in use, or before a device is known") {
  CHECK(tcp_warning({"tcp/eth0"}, {}).empty());
  CHECK(tcp_warning({"rc_mlx5/mlx5_0:1", "tcp/eth0"}, {"mlx5_0"}).empty());
  CHECK(tcp_warning({}, {"mlx5_0"}).empty());
}
