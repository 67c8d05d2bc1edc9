#include "trireme/serialization.hpp"

namespace trireme::detail {

// Thread-local is right: encoding and decoding never wait between setting and restoring, except for arrays inside a
// decoded type, and a fiber resumes on its thread; what runs there meanwhile restores what it found.
Encoder*& current_encoder() {
  static thread_local Encoder* current = nullptr;
  return current;
}

Decoder*& current_decoder() {
  static thread_local Decoder* current = nullptr;
  return current;
}

}  // namespace trireme::detail
