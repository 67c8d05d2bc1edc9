# The library users link: trireme::trireme, one shared library made of all layers whole, so that a program holds one
# copy of every registry and nothing of the layers' headers or outside packages reaches it, save what the public
# headers in core/include/ name themselves.
include(CMakePackageConfigHelpers)

set(TRIREME_LAYERS trireme_base trireme_transport trireme_objstore trireme_scheduler trireme_core)

# Headers of the layers that the public headers are made of; installed under trireme/internal/, so that they keep the
# names they have here and users' own base/ or scheduler/ stay theirs unless they look there. The test
# consumer.find_package includes every public header, and so finds what is missing from this list.
set(TRIREME_INTERNAL_HEADERS
  base/block_cache.hpp
  base/check.hpp
  base/ids.hpp
  base/result.hpp
  scheduler/work.hpp)

configure_file("${PROJECT_SOURCE_DIR}/core/include/trireme/version.hpp.in"
  "${PROJECT_BINARY_DIR}/include/trireme/version.hpp" @ONLY)

list(TRANSFORM TRIREME_LAYERS REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
add_library(trireme SHARED "${PROJECT_SOURCE_DIR}/cmake/library.cpp" ${objects})
add_library(trireme::trireme ALIAS trireme)
target_compile_features(trireme PUBLIC cxx_std_20)
target_include_directories(trireme PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/core/include>
  $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/trireme/internal>)
target_link_libraries(trireme PUBLIC Boost::serialization Threads::Threads)
# For what the layers need from outside; their own objects are in already.
target_link_libraries(trireme PRIVATE ${TRIREME_LAYERS})
if(NOT TRIREME_SANITIZE)  # Clang leaves the sanitizers' own symbols to the program
  target_link_options(trireme PRIVATE LINKER:--no-undefined)
endif()
set_target_properties(trireme PROPERTIES
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set_target_properties(${TRIREME_LAYERS} trireme PROPERTIES INTERPROCEDURAL_OPTIMIZATION_RELEASE ${TRIREME_IPO})

# trireme::embed, the only library of ours that links MPI: the runtime beside a program that has MPI anyway.
set(TRIREME_LIBRARIES trireme)
set(TRIREME_ABSENT_HEADERS PATTERN "embed.hpp" EXCLUDE)
if(TRIREME_HAVE_MPI)
  add_library(trireme_embed SHARED "${PROJECT_SOURCE_DIR}/core/embed.cpp" $<TARGET_OBJECTS:trireme_bootstrap_mpi>)
  add_library(trireme::embed ALIAS trireme_embed)
  target_compile_options(trireme_embed PRIVATE -Wall -Wextra -Wno-unused-parameter)
  target_link_libraries(trireme_embed PUBLIC trireme MPI::MPI_C PRIVATE fmt::fmt)
  # MPI's C++ bindings would need a library more; nothing here uses them.
  target_compile_definitions(trireme_embed PUBLIC OMPI_SKIP_MPICXX=1 MPICH_SKIP_MPICXX=1)
  set_target_properties(trireme_embed PROPERTIES
    EXPORT_NAME embed
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  list(APPEND TRIREME_LIBRARIES trireme_embed)
  set(TRIREME_ABSENT_HEADERS "")
endif()

install(TARGETS ${TRIREME_LIBRARIES} EXPORT trireme-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY "${PROJECT_SOURCE_DIR}/core/include/trireme" "${PROJECT_BINARY_DIR}/include/trireme"
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" ${TRIREME_ABSENT_HEADERS})
foreach(header IN LISTS TRIREME_INTERNAL_HEADERS)
  cmake_path(GET header PARENT_PATH folder)
  install(FILES "${PROJECT_SOURCE_DIR}/${header}"
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trireme/internal/${folder})
endforeach()
install(EXPORT trireme-targets NAMESPACE trireme:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/trireme-config.cmake.in"
  "${PROJECT_BINARY_DIR}/trireme-config.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/trireme-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/trireme-config.cmake" "${PROJECT_BINARY_DIR}/trireme-config-version.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)
