# Compiler, build type, sanitizers and compiler cache: what holds for every target.
get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT CMAKE_BUILD_TYPE AND NOT multi_config)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Debug, RelWithDebInfo or Release" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)  # modules and Spack keep libraries outside the loader's default paths

# Of the layers and of what stands on them one by one, in Release: a task costs a quarter fewer instructions when the
# functions of all files may be inlined (benchmarks/counts.py).
include(CheckIPOSupported)
check_ipo_supported(RESULT TRIREME_IPO OUTPUT ipo_output LANGUAGES CXX)

if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(TRIREME_CCACHE ccache)
  if(TRIREME_CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER "${TRIREME_CCACHE}")
    set(CMAKE_CXX_COMPILER_LAUNCHER "${TRIREME_CCACHE}")
  endif()
endif()

set(TRIREME_SANITIZE "" CACHE STRING "Sanitizers for everything: empty, address,undefined or thread")
if(TRIREME_SANITIZE)
  add_compile_options(-fsanitize=${TRIREME_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${TRIREME_SANITIZE})
  if(TRIREME_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(TRIREME_SANITIZE MATCHES "thread")
    add_compile_definitions(TRIREME_SANITIZE_THREAD=1)
  endif()
endif()
