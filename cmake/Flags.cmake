# How every source is compiled.
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# The build tree runs as it lies, and can be moved; tests need no relinking when only a library changed.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
set(CMAKE_LINK_DEPENDS_NO_SHARED ON)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(evenflow_flags INTERFACE)
target_compile_options(evenflow_flags INTERFACE -Wall -Wextra $<$<BOOL:${EVENFLOW_WERROR}>:-Werror>)

# Paths in error messages and debug information start at evenflow/, whichever way the compiler was given the file:
# ccache may rewrite the absolute name into one relative to the build folder.
file(RELATIVE_PATH up ${CMAKE_BINARY_DIR} ${PROJECT_SOURCE_DIR}/.)
target_compile_options(evenflow_flags INTERFACE
  -ffile-prefix-map=${up}/= -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)

if(EVENFLOW_SANITIZE)
  set(sanitize -fsanitize=${EVENFLOW_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_compile_options(evenflow_flags INTERFACE ${sanitize})
  target_link_options(evenflow_flags INTERFACE -fsanitize=${EVENFLOW_SANITIZE})
endif()
