# Steps of the test consumer.find_package; see CMakeLists.txt beside it.
function(step)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
step(${CMAKE_COMMAND} --install "${BUILD_DIR}" --prefix "${WORK_DIR}/prefix")
# What a wheel holds is a component of its own.
if(EXISTS "${WORK_DIR}/prefix/trireme")
  message(FATAL_ERROR "an installation of the C++ library put the Python package's files into ${WORK_DIR}/prefix/trireme")
endif()
step(${CMAKE_COMMAND} -S "${SOURCE_DIR}" -B "${WORK_DIR}/build" -G "${GENERATOR}"
  "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix"
  "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}"
  "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}" "-DEXPECTED_VERSION=${VERSION}"
  "-DINCLUDE_DIR=${WORK_DIR}/prefix/include")
step(${CMAKE_COMMAND} --build "${WORK_DIR}/build")
step("${WORK_DIR}/build/consumer")
step("${WORK_DIR}/build/collectives")
if(EXISTS "${WORK_DIR}/build/embedded")
  step("${WORK_DIR}/build/embedded")
elseif(HAVE_MPI)
  message(FATAL_ERROR "this build has MPI, but its package has no component embed")
endif()
file(REMOVE_RECURSE "${WORK_DIR}")
