# trireme_module(<name> SOURCES ... [DEPENDS <module> ...] [LIBRARIES <target> ...])
#
# Declares one layer as a static, position-independent library `trireme_<name>`. DEPENDS names the layers
# below it; nothing else of the project may be included. LIBRARIES are outside packages.
function(trireme_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  add_library(trireme_${name} STATIC ${ARG_SOURCES})
  target_include_directories(trireme_${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_compile_features(trireme_${name} PUBLIC cxx_std_20)
  target_compile_options(trireme_${name} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  # Nobody replaces the library's own functions, so calls among them may be inlined although they are exported.
  target_compile_options(trireme_${name} PRIVATE $<$<CONFIG:Release>:-fno-semantic-interposition>)
  # initial-exec: a variable of a thread is one instruction away instead of a call. They are few, and so
  # fit into what a loader keeps for libraries that are opened later.
  target_compile_options(trireme_${name} PRIVATE -ftls-model=initial-exec)
  set_target_properties(trireme_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  foreach(dep ${ARG_DEPENDS})
    target_link_libraries(trireme_${name} PUBLIC trireme_${dep})
  endforeach()
  target_link_libraries(trireme_${name} PUBLIC ${ARG_LIBRARIES})
endfunction()
