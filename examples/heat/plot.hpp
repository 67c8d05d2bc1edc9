#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace heat {

struct SurrogateError {
  std::uint64_t step = 0;
  double error = 0;      ///< root mean square of what the surrogate said
  double unchanged = 0;  ///< of saying that nothing changes
};

/// Draws both errors over the steps, on a logarithmic axis, as an SVG picture.
/// Errors: std::runtime_error when the file cannot be written.
void plot(const std::string& path, const std::vector<SurrogateError>& errors);

}  // namespace heat
