# A room is a folder of evenflow/, compiled as an object library; a library is made of rooms.

# What a room is compiled and linked against, beyond what all have.
set(uses_all fmt::fmt nlohmann_json::nlohmann_json Threads::Threads)
set(uses_ops hwy::hwy)
if(EVENFLOW_ONEDNN)
  list(APPEND uses_ops DNNL::dnnl)
endif()
set(uses_backends_cpu ${uses_ops})
set(uses_backends_gpu ${CMAKE_DL_LIBS})
if(EVENFLOW_THREADS STREQUAL "openmp")
  list(APPEND uses_backends_cpu OpenMP::OpenMP_CXX)
endif()
if(EVENFLOW_HDF5)
  set(uses_format hwy::hwy PkgConfig::ZIP PkgConfig::HDF5 ZLIB::ZLIB JPEG::JPEG PNG::PNG SQLite::SQLite3)
endif()

# Compiles a target as the rooms are compiled: evenflow_compile(target libraries...)
function(evenflow_compile target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE evenflow_flags ${uses_all} ${ARGN})
  target_compile_definitions(${target} PRIVATE EVENFLOW_VERSION="${PROJECT_VERSION}"
    $<$<BOOL:${EVENFLOW_ONEDNN}>:EVENFLOW_ONEDNN=1>)
endfunction()

# Sets sources, tests and slow_tests: the files of a room that belong to this configuration.
macro(evenflow_room_files room)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/evenflow/${room}/*.cc)
  if(NOT EVENFLOW_ONEDNN)
    list(FILTER files EXCLUDE REGEX "_onednn(_test|\\.cpu)?\\.cc$")
  endif()
  # Of this family exactly one member is built.
  foreach(threads openmp std none)
    if(NOT threads STREQUAL EVENFLOW_THREADS)
      list(FILTER files EXCLUDE REGEX "/parallel_${threads}\\.cc$")
    endif()
  endforeach()

  # Kernels for accelerators, where the room that runs them is built.
  if(NOT EVENFLOW_GPU)
    list(FILTER files EXCLUDE REGEX "\\.gpu\\.cc$|_gpu_test\\.cc$")
  endif()

  set(sources ${files})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  set(tests ${files})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(slow_tests ${tests})
  list(FILTER slow_tests INCLUDE REGEX "_slow_test\\.cc$")
  list(FILTER tests EXCLUDE REGEX "_slow_test\\.cc$")
endmacro()

# data/x.bin becomes `const unsigned char kX[]` and `const long kXSize` in evenflow::data. Sets `embedded`.
macro(evenflow_embed_data)
  file(GLOB bins CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/data/*.bin)
  set(embedded "")
  foreach(bin IN LISTS bins)
    get_filename_component(stem ${bin} NAME_WE)
    string(SUBSTRING ${stem} 0 1 initial)
    string(SUBSTRING ${stem} 1 -1 rest)
    string(TOUPPER ${initial} initial)
    set(out ${PROJECT_BINARY_DIR}/embedded/${stem}.cc)
    set(script ${PROJECT_SOURCE_DIR}/cmake/Embed.cmake)
    add_custom_command(OUTPUT ${out} DEPENDS ${bin} ${script} VERBATIM
      COMMAND ${CMAKE_COMMAND} -D IN=${bin} -D OUT=${out} -D NAME=k${initial}${rest} -P ${script})
    list(APPEND embedded ${out})
  endforeach()
endmacro()

# What is compiled for GPUs while a program runs travels in the library as text. Sets `embedded`.
macro(evenflow_embed_kernels)
  file(GLOB kernels CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/evenflow
    ${PROJECT_SOURCE_DIR}/evenflow/*/*.gpu.h)
  list(APPEND kernels backends/gpu/shim.h ops/scalar.h)
  list(TRANSFORM kernels PREPEND ${PROJECT_SOURCE_DIR}/evenflow/ OUTPUT_VARIABLE paths)
  list(JOIN kernels "," names)
  set(embedded ${PROJECT_BINARY_DIR}/embedded/kernels.cc)
  set(script ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake)
  add_custom_command(OUTPUT ${embedded} DEPENDS ${paths} ${script} VERBATIM
    COMMAND ${CMAKE_COMMAND} -D OUT=${embedded} -D ROOT=${PROJECT_SOURCE_DIR}/evenflow -D FILES=${names} -P ${script})
endmacro()

# evenflow_library(name ROOMS rooms... [USES libraries...]) makes evenflow::name of those rooms that have a tenant;
# what it uses of ours, it hands on to its users.
function(evenflow_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ROOMS;USES")
  set(target evenflow_${name})
  if(name STREQUAL "evenflow")
    set(target evenflow)
  endif()
  set(objects "")
  set(links ${uses_all})
  foreach(room IN LISTS arg_ROOMS)
    evenflow_room_files(${room})
    if(sources)
      if(room STREQUAL "data")
        evenflow_embed_data()
        list(APPEND sources ${embedded})
      endif()
      if(room STREQUAL "backends/gpu")
        evenflow_embed_kernels()
        list(APPEND sources ${embedded})
      endif()
      string(MAKE_C_IDENTIFIER ${room} id)
      add_library(evenflow_${id}_objects OBJECT ${sources})
      evenflow_compile(evenflow_${id}_objects ${uses_${id}})
      list(APPEND objects $<TARGET_OBJECTS:evenflow_${id}_objects>)
      list(APPEND links ${uses_${id}})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES links)

  set(visibility PUBLIC)
  set(face ${target})
  if(NOT objects)
    add_library(${target} INTERFACE)
    set(visibility INTERFACE)
  elseif(EVENFLOW_STATIC)
    # Operations register themselves; the linker would leave them in a plain archive, since nobody calls them by name.
    add_library(${target} STATIC ${objects})
    target_link_libraries(${target} PRIVATE ${links})
    set(face ${target}_whole)
    add_library(${face} INTERFACE)
    target_link_libraries(${face} INTERFACE
      $<BUILD_INTERFACE:$<LINK_LIBRARY:WHOLE_ARCHIVE,${target}>>
      $<INSTALL_INTERFACE:$<LINK_LIBRARY:WHOLE_ARCHIVE,evenflow::${name}_archive>>)
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name}_archive)
    install(TARGETS ${target} EXPORT evenflowTargets)
  else()
    add_library(${target} SHARED ${objects})
    target_link_libraries(${target} PRIVATE evenflow_flags ${links})
    target_link_options(${target} PRIVATE -Wl,--no-undefined)
    set_target_properties(${target} PROPERTIES
      VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
      LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib BUILD_RPATH $ORIGIN INSTALL_RPATH $ORIGIN)
  endif()
  target_link_libraries(${target} ${visibility} ${arg_USES})
  target_compile_features(${target} ${visibility} cxx_std_20)
  target_include_directories(${target} ${visibility}
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set_target_properties(${face} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${face} EXPORT evenflowTargets)
  add_library(evenflow::${name} ALIAS ${face})
endfunction()

# The command, at <build>/evenflow.
function(evenflow_command)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cli/*.cc)
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  if(sources)
    add_executable(evenflow_cli ${sources})
    evenflow_compile(evenflow_cli evenflow::evenflow CLI11::CLI11)
    set_target_properties(evenflow_cli PROPERTIES
      OUTPUT_NAME evenflow RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}
      INSTALL_RPATH $ORIGIN/../${CMAKE_INSTALL_LIBDIR})
    install(TARGETS evenflow_cli)
  endif()
endfunction()
