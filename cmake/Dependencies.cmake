# The libraries that others keep. docs/design/dependencies.md says why each.
# All of them are private to our libraries: a user's program needs none of their headers.
find_package(PkgConfig REQUIRED)
find_package(hwy 1.0.3 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(Threads REQUIRED)

if(EVENFLOW_ONEDNN)
  # tools/setup.sh puts it there. Another place: -Ddnnl_DIR=...
  find_package(dnnl 3.2 REQUIRED HINTS ${PROJECT_SOURCE_DIR}/build/env)
endif()
if(EVENFLOW_THREADS STREQUAL "openmp")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
elseif(NOT EVENFLOW_THREADS MATCHES "^(std|none)$")
  message(FATAL_ERROR "EVENFLOW_THREADS is ${EVENFLOW_THREADS}, expected openmp, std or none")
endif()
if(EVENFLOW_HDF5)
  find_package(ZLIB REQUIRED)
  pkg_check_modules(ZIP REQUIRED IMPORTED_TARGET libzip)
  # Debian keeps the serial build apart under a name of its own.
  pkg_search_module(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial hdf5)
  if(EVENFLOW_CLI)
    find_package(CLI11 2.1 REQUIRED)
  endif()
endif()
if(EVENFLOW_TESTS)
  find_package(GTest REQUIRED)
endif()
