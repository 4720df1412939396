# The readers under libFuzzer, where coverage leads the way:
#   cmake --preset fuzz && cmake --build --preset fuzz
#   build/fuzz/bin/hdf5_fuzz -max_total_time=60 /tmp/corpus tests/fuzz/seeds/hdf5 tests/format
# What it finds goes to tests/fuzz/seeds/, where every build replays it (Tests.cmake).
file(GLOB fuzzers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.cc)
foreach(source IN LISTS fuzzers)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  evenflow_compile(${name} evenflow::runtime ${uses_format})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endforeach()
