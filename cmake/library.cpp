#include <trireme/version.hpp>

namespace trireme {

const char* library_version() { return TRIREME_VERSION_STRING; }

}  // namespace trireme
