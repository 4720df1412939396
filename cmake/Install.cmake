# `cmake --install` gives a tree that find_package(evenflow) finds and that runs where it lies.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/evenflow)

install(DIRECTORY evenflow DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT evenflowTargets NAMESPACE evenflow:: DESTINATION ${package})
configure_package_config_file(cmake/evenflowConfig.cmake.in ${PROJECT_BINARY_DIR}/evenflowConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/evenflowConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/evenflowConfig.cmake ${PROJECT_BINARY_DIR}/evenflowConfigVersion.cmake
  DESTINATION ${package})
install(FILES LICENSE THIRD_PARTY_NOTICES.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# oneDNN 3 is in no Debian release, so it goes beside our libraries, under the name that the loader asks for.
if(EVENFLOW_ONEDNN AND NOT EVENFLOW_STATIC)
  install(CODE "
    file(REAL_PATH \"$<TARGET_FILE:DNNL::dnnl>\" dnnl)
    file(INSTALL \"\${dnnl}\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}\"
         RENAME \"$<TARGET_SONAME_FILE_NAME:DNNL::dnnl>\")")
endif()
