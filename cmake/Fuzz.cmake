# Fuzzers of the readers: cmake -B build/fuzz -DCMAKE_CXX_COMPILER=clang++-16 -DEVENFLOW_FUZZ=ON, then for example
#   build/fuzz/bin/hdf5_fuzz -max_total_time=60 corpus tests/format
# Each compiles the readers itself, so that the sanitizers and the coverage see into them.
file(GLOB fuzzed CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/evenflow/format/*.cc
     ${PROJECT_SOURCE_DIR}/evenflow/core/error.cc ${PROJECT_SOURCE_DIR}/evenflow/core/dtype.cc
     ${PROJECT_SOURCE_DIR}/evenflow/core/shape.cc ${PROJECT_SOURCE_DIR}/evenflow/core/buffer.cc
     ${PROJECT_SOURCE_DIR}/evenflow/core/checksum.cc)
list(FILTER fuzzed EXCLUDE REGEX "_test\\.cc$")
set(fuzz_flags -O1 -g1 -fno-sanitize-recover=undefined)

add_library(evenflow_fuzzed OBJECT ${fuzzed})
evenflow_compile(evenflow_fuzzed ${uses_format})
target_compile_options(evenflow_fuzzed PRIVATE ${fuzz_flags} -fsanitize=fuzzer-no-link,address,undefined)
# Checksums of HDF5's structures are not compared: a fuzzer cannot guess them.
target_compile_definitions(evenflow_fuzzed PRIVATE FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)

file(GLOB fuzzers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.cc)
foreach(source IN LISTS fuzzers)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} $<TARGET_OBJECTS:evenflow_fuzzed>)
  evenflow_compile(${name} ${uses_format})
  target_compile_options(${name} PRIVATE ${fuzz_flags} -fsanitize=fuzzer,address,undefined)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endforeach()
