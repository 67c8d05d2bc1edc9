#pragma once

#include <ucp/api/ucp.h>

#include <string>
#include <vector>

namespace trireme::transport::ucx {

/// The transports and devices of an endpoint, each once, as "tcp/eth0" or "rc_mlx5/mlx5_0:1"; empty when UCX says none.
std::vector<std::string> lanes_of(ucp_ep_h endpoint);

/// True when there are lanes, and TCP is all they use.
bool all_tcp(const std::vector<std::string>& lanes);

/// Names of the machine's RDMA devices (InfiniBand, RoCE, Slingshot), whether UCX can use them or not.
std::vector<std::string> rdma_devices();

/// What is wrong when a machine with RDMA devices talks TCP, and what to look at; empty when nothing is.
std::string tcp_warning(const std::vector<std::string>& lanes, const std::vector<std::string>& rdma);

}  // namespace trireme::transport::ucx
