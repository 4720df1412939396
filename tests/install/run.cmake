# Builds and runs the ten-line program as its user would:
#   cmake -D BUILD=<our build> -D WORK=<scratch folder> -D KIND=find_package|add_subdirectory
#         [-D CHOICES=<options of the sub-build>] [-D CONFIGURE_ONLY=ON] -P run.cmake
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Whoever links our archives finds oneDNN by himself; a user of the shared libraries never asks for it.
set(options -G Ninja -D CMAKE_BUILD_TYPE=Release -D dnnl_DIR=${dnnl_DIR} --no-warn-unused-cli)
file(REMOVE_RECURSE ${WORK})
if(KIND STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/installed)
  # A tree that can be moved: nothing in it may point back to where it was built.
  file(RENAME ${WORK}/installed ${WORK}/prefix)
  list(APPEND options -D CMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  list(APPEND options ${CHOICES})
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/${KIND} -B ${WORK}/build ${options})
if(NOT CONFIGURE_ONLY)
  run(${CMAKE_COMMAND} --build ${WORK}/build --target user)
  run(${WORK}/build/user)
endif()
