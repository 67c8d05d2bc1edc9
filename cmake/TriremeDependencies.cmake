# Everything outside the project is found here and nowhere else, so that a site without apt (modules, Spack)
# only has to put its packages on CMAKE_PREFIX_PATH.
#
# An optional package is AUTO (used when found), ON (an error when absent) or OFF. What came out is in
# TRIREME_HAVE_<NAME> and in the summary at the end of the configure step, with the reason.
option(TRIREME_TESTS "Build the tests" ON)
option(TRIREME_BENCHMARKS "Build the benchmarks" OFF)
option(TRIREME_EXAMPLES "Build the examples" ON)
foreach(name IN ITEMS MPI HDF5 CUDA PYTHON SLURM_TESTS)
  set(TRIREME_${name} AUTO CACHE STRING "AUTO, ON or OFF")
  set_property(CACHE TRIREME_${name} PROPERTY STRINGS AUTO ON OFF)
endforeach()

set(TRIREME_SUMMARY "")

# Stops with the Debian package and the variable to set when a required package was not found.
function(trireme_require found name debian variable)
  if(NOT found)
    message(FATAL_ERROR
      "${name} was not found. Debian: apt-get install ${debian}. "
      "Elsewhere: set ${variable} to where it is installed "
      "(cmake -D${variable}=...; CMAKE_PREFIX_PATH takes a list of prefixes, separated by semicolons).")
  endif()
endfunction()

# Settles one optional package: found is a boolean, what says what was found, missing what was not and how to get it.
function(trireme_optional name found what missing)
  set(have OFF)
  if(TRIREME_${name} STREQUAL "AUTO" OR TRIREME_${name})
    if(found)
      set(have ON)
      set(why "${what}")
    elseif(TRIREME_${name} STREQUAL "AUTO")
      set(why "not found: ${missing}")
    else()
      message(FATAL_ERROR "TRIREME_${name}=ON, but it was not found: ${missing}. Or set TRIREME_${name}=OFF.")
    endif()
  else()
    set(why "TRIREME_${name}=OFF")
  endif()
  string(REPLACE ";" " " why "${why}")
  set(TRIREME_HAVE_${name} ${have} PARENT_SCOPE)
  list(APPEND TRIREME_SUMMARY "${name}|${have}|${why}")
  set(TRIREME_SUMMARY "${TRIREME_SUMMARY}" PARENT_SCOPE)
endfunction()

set(CMAKE_THREAD_PREFER_PTHREAD ON)
find_package(Threads REQUIRED)
find_package(PkgConfig QUIET)
trireme_require("${PKG_CONFIG_FOUND}" pkg-config pkg-config PKG_CONFIG_EXECUTABLE)
find_package(fmt QUIET)
trireme_require("${fmt_FOUND}" fmt libfmt-dev fmt_DIR)
find_package(spdlog QUIET)
trireme_require("${spdlog_FOUND}" spdlog libspdlog-dev spdlog_DIR)
find_package(Boost 1.74 QUIET COMPONENTS serialization context)
trireme_require("${Boost_FOUND}" "Boost >= 1.74 with serialization and context"
  "libboost-serialization-dev libboost-context-dev" Boost_DIR)
pkg_check_modules(hwloc QUIET IMPORTED_TARGET hwloc)
trireme_require("${hwloc_FOUND}" hwloc libhwloc-dev CMAKE_PREFIX_PATH)
pkg_check_modules(pmix QUIET IMPORTED_TARGET pmix)
trireme_require("${pmix_FOUND}" PMIx libpmix-dev CMAKE_PREFIX_PATH)
pkg_check_modules(ucx QUIET IMPORTED_TARGET ucx)
trireme_require("${ucx_FOUND}" UCX libucx-dev CMAKE_PREFIX_PATH)

if(TRIREME_TESTS)
  find_path(DOCTEST_INCLUDE_DIR doctest/doctest.h)
  trireme_require("${DOCTEST_INCLUDE_DIR}" doctest doctest-dev DOCTEST_INCLUDE_DIR)
endif()
# Command lines of tools and benchmarks, and the benchmarks' results file.
find_package(CLI11 QUIET)
trireme_require("${CLI11_FOUND}" CLI11 libcli11-dev CLI11_DIR)
if(TRIREME_BENCHMARKS OR TRIREME_TESTS)  # tests of the benchmarks' simulator are left out without it
  find_package(nlohmann_json QUIET)
endif()
if(TRIREME_BENCHMARKS)
  trireme_require("${nlohmann_json_FOUND}" "JSON for Modern C++" nlohmann-json3-dev nlohmann_json_DIR)
endif()

if(TRIREME_MPI)
  find_package(MPI QUIET COMPONENTS C)
endif()
trireme_optional(MPI "${MPI_C_FOUND}" "${MPI_C_LIBRARIES}" "Debian: libopenmpi-dev; elsewhere MPI_HOME")

if(TRIREME_HDF5)
  find_package(HDF5 QUIET COMPONENTS C)
endif()
trireme_optional(HDF5 "${HDF5_FOUND}" "${HDF5_VERSION}" "Debian: libhdf5-dev; elsewhere HDF5_ROOT")

if(TRIREME_CUDA)
  find_package(CUDAToolkit QUIET)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(CUDAToolkit_FOUND AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(TRIREME_CUDA_FOUND ON)
  endif()
endif()
trireme_optional(CUDA "${TRIREME_CUDA_FOUND}" "CUDA ${CUDAToolkit_VERSION}, ${NCCL_LIBRARY}"
  "CUDA toolkit and NCCL; CUDAToolkit_ROOT, NCCL_INCLUDE_DIR, NCCL_LIBRARY")

# The interpreter also runs the check scripts of the tests.
find_package(Python3 QUIET COMPONENTS Interpreter OPTIONAL_COMPONENTS Development.Module)
if(TRIREME_PYTHON)
  find_package(pybind11 QUIET CONFIG)
  if(Python3_Development.Module_FOUND AND pybind11_FOUND)
    set(TRIREME_PYTHON_FOUND ON)
  endif()
endif()
trireme_optional(PYTHON "${TRIREME_PYTHON_FOUND}" "Python ${Python3_VERSION}, pybind11 ${pybind11_VERSION}"
  "Debian: python3-dev pybind11-dev; elsewhere Python3_ROOT_DIR, pybind11_DIR")

# Programs the tests run.
find_program(TRIREME_MPIRUN NAMES mpirun HINTS ${MPI_HOME} PATH_SUFFIXES bin)
if(TRIREME_SLURM_TESTS)
  set(TRIREME_SLURM_MISSING "")
  foreach(program IN ITEMS munged slurmctld slurmd srun)
    find_program(TRIREME_${program} ${program} PATHS /usr/sbin /usr/local/sbin)
    if(NOT TRIREME_${program})
      list(APPEND TRIREME_SLURM_MISSING ${program})
    endif()
  endforeach()
  if(NOT TRIREME_SLURM_MISSING)
    set(TRIREME_SLURM_FOUND ON)
  endif()
endif()
trireme_optional(SLURM_TESTS "${TRIREME_SLURM_FOUND}" "${TRIREME_slurmd}"
  "${TRIREME_SLURM_MISSING}; Debian: slurmctld slurmd slurm-client munge")

function(trireme_print_summary)
  message(STATUS "Trireme ${PROJECT_VERSION}: ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, "
    "${CMAKE_BUILD_TYPE}, sanitizers: ${TRIREME_SANITIZE}")
  message(STATUS "  required: Boost ${Boost_VERSION_STRING}, fmt ${fmt_VERSION}, spdlog ${spdlog_VERSION}, "
    "hwloc ${hwloc_VERSION}, PMIx ${pmix_VERSION}, UCX ${ucx_VERSION}")
  foreach(part IN ITEMS TESTS BENCHMARKS EXAMPLES)
    message(STATUS "  TRIREME_${part}: ${TRIREME_${part}}")
  endforeach()
  foreach(row IN LISTS TRIREME_SUMMARY)
    string(REPLACE "|" ";" cells "${row}")
    list(GET cells 0 name)
    list(GET cells 1 have)
    list(GET cells 2 why)
    message(STATUS "  TRIREME_${name}: ${have} (${why})")
  endforeach()
endfunction()
