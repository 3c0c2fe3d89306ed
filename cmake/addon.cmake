# cria_addon(<target> CUDA <backend> SOURCES <files below native/addon>...): <target>.node, from all rooms and
# one backend of cmake/cuda.cmake. The target "cria" is build/Release/cria.node.
function(cria_addon target)
  cmake_parse_arguments(ARG "" "CUDA" "SOURCES" ${ARGN})
  if(NOT CMAKE_JS_INC)
    message(FATAL_ERROR "the addon is configured through cmake-js (npm run build:native); "
                        "for the native tests alone use -DCRIA_ADDON=OFF")
  endif()
  list(TRANSFORM ARG_SOURCES PREPEND native/addon/)
  execute_process(COMMAND node -p "require('node-addon-api').include_dir"
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE addon_api_dir
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  add_library(${target} SHARED ${ARG_SOURCES} ${CMAKE_JS_SRC})
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".node")
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_JS_INC} ${addon_api_dir})
  file(READ ${CMAKE_CURRENT_SOURCE_DIR}/package.json package_json)
  string(JSON package_version GET "${package_json}" version)
  # SWALLOW_UNTHROWABLE: a worker that is being terminated cannot throw, and trying to would end the process.
  target_compile_definitions(${target} PRIVATE
    NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
    NAPI_VERSION=8 NAPI_CPP_EXCEPTIONS NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED
    CRIA_VERSION="${package_version}")
  target_link_libraries(${target} PRIVATE ${ARG_CUDA} cria_engine ${CMAKE_JS_LIB})
  if(NOT CRIA_SANITIZE)
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
  # nodelete: threads may still run code of the addon while an environment unloads it.
  set(exports ${CMAKE_CURRENT_SOURCE_DIR}/cmake/addon.map)
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${exports})
  target_link_options(${target} PRIVATE -Wl,--version-script=${exports} -Wl,--exclude-libs,ALL
    -Wl,--gc-sections -Wl,-z,nodelete -Wl,-z,defs -Wl,--unresolved-symbols=ignore-in-object-files)
endfunction()
