# trireme_test(<name> LABEL unit|conformance|sim|ranks|slurm|stress SOURCES <file> ... LINK <target> ...
#              [RANKS <n> ...] [APART | ONLY_APART] [ENV "A=B" ...] [ARGS <arg> ...] [TIMEOUT <seconds>]
#              [LABELS <more> ...] [NO_MAIN] [MPI] [NOT_UNDER address|thread ...])
#
# Builds the doctest program <name> and adds it to ctest, as <name>, or with RANKS once per n under mpirun:
#   <name>.r<n>.shm   ranks of one node, through shared memory
#   <name>.r<n>.ucx   every rank with a node identity of its own, through UCX (APART: as well, ONLY_APART: only this;
#                     not for one rank, which has nobody to be apart from)
# NO_MAIN    leaves main() to the sources.
# MPI        marks a program that calls MPI: left out when MPI is off and under the thread sanitizer, because MPI libraries
#            race on their own.
# NOT_UNDER  leaves the program out of builds with that sanitizer; a comment at the call says why.
# A test that exits with 77 is skipped; it prints what is missing (tests/support/skip.hpp). TIMEOUT is in seconds, 60 by
# default. A further trireme_add_run() runs the same program another way.
set(TRIREME_TEST_TIMEOUT_FACTOR 1)
set(TRIREME_TEST_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
if(TRIREME_SANITIZE)
  set(TRIREME_TEST_TIMEOUT_FACTOR 5)
  set(suppressions "${PROJECT_SOURCE_DIR}/tests/support")
  list(APPEND TRIREME_TEST_ENVIRONMENT
    "TSAN_OPTIONS=suppressions=${suppressions}/tsan.supp:second_deadlock_stack=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    # Sanitizers replace malloc and mmap themselves; UCX's hooks on top of theirs recurse.
    "UCX_MEM_EVENTS=n" "UCX_HANDLE_ERRORS=none")
endif()

# What a label needs built: a sanitizer build makes no more than it runs.
foreach(label IN ITEMS unit conformance sim ranks slurm stress)
  add_custom_target(tests_${label})
endforeach()

function(trireme_test name)
  cmake_parse_arguments(ARG "APART;ONLY_APART;NO_MAIN;MPI" "LABEL;TIMEOUT"
    "SOURCES;LINK;RANKS;ENV;ARGS;LABELS;NOT_UNDER" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS OR NOT ARG_LABEL OR NOT ARG_SOURCES)
    message(FATAL_ERROR "trireme_test(${name}): needs LABEL and SOURCES; not understood: ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  foreach(sanitizer IN LISTS ARG_NOT_UNDER)
    if(TRIREME_SANITIZE MATCHES "${sanitizer}")
      return()
    endif()
  endforeach()
  if(ARG_MPI)
    if(NOT TRIREME_HAVE_MPI OR TRIREME_SANITIZE MATCHES "thread")
      return()
    endif()
    list(APPEND ARG_LINK MPI::MPI_C)
    list(APPEND ARG_SOURCES "${PROJECT_SOURCE_DIR}/tests/support/mpi_leak_check.cpp")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_include_directories(${name} SYSTEM PRIVATE "${DOCTEST_INCLUDE_DIR}")
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} trireme_leak_check)
  if(NOT ARG_NO_MAIN)
    target_link_libraries(${name} PRIVATE trireme_test_main)
  endif()
  add_dependencies(tests_${ARG_LABEL} ${name})

  set(options LABELS ${ARG_LABEL} ${ARG_LABELS} ENV ${ARG_ENV} ARGS ${ARG_ARGS})
  if(ARG_TIMEOUT)
    list(APPEND options TIMEOUT ${ARG_TIMEOUT})
  endif()
  if(NOT ARG_RANKS)
    trireme_add_run(${name} PROGRAM ${name} ${options})
    return()
  endif()
  foreach(n IN LISTS ARG_RANKS)
    if(NOT ARG_ONLY_APART)
      trireme_add_run(${name}.r${n}.shm PROGRAM ${name} RANKS ${n} ${options})
    endif()
    if((ARG_APART OR ARG_ONLY_APART) AND n GREATER 1)
      trireme_add_run(${name}.r${n}.ucx PROGRAM ${name} RANKS ${n} APART ${options})
    endif()
  endforeach()
endfunction()

# trireme_add_run(<ctest name> PROGRAM <target> LABELS <label> ... [RANKS n] [APART] [ENV ...] [ARGS ...] [TIMEOUT s])
function(trireme_add_run name)
  cmake_parse_arguments(ARG "APART" "PROGRAM;RANKS;TIMEOUT" "LABELS;ENV;ARGS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  math(EXPR timeout "${ARG_TIMEOUT} * ${TRIREME_TEST_TIMEOUT_FACTOR}")
  set(command $<TARGET_FILE:${ARG_PROGRAM}> ${ARG_ARGS})
  set(processors 1)
  if(ARG_RANKS)
    if(NOT TRIREME_MPIRUN)
      add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -E echo "SKIPPED: missing mpirun (Debian: openmpi-bin)")
      set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" SKIP_REGULAR_EXPRESSION "SKIPPED: missing")
      return()
    endif()
    if(ARG_APART)
      list(PREPEND command "${PROJECT_SOURCE_DIR}/tests/support/rank_apart.sh")
    endif()
    # mpirun ends the ranks itself before ctest's own limit, which would leave them behind.
    list(PREPEND command "${TRIREME_MPIRUN}" -n ${ARG_RANKS} --bind-to none --oversubscribe --tag-output
      --timeout ${timeout})
    math(EXPR timeout "${timeout} + 20")
    set(processors ${ARG_RANKS})
    # Tests look for leaks themselves (support/leak_check.cpp); a program that is no test has only the check at the exit,
    # which finds what PMIx keeps.
    list(APPEND ARG_ENV "ASAN_OPTIONS=leak_check_at_exit=0")
  endif()
  add_test(NAME ${name} COMMAND ${command})
  set_tests_properties(${name} PROPERTIES
    LABELS "${ARG_LABELS}"
    ENVIRONMENT "${TRIREME_TEST_ENVIRONMENT};${ARG_ENV}"
    TIMEOUT ${timeout}
    PROCESSORS ${processors}
    SKIP_RETURN_CODE 77)
endfunction()
