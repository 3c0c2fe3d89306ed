# A room is a folder of native/ and a static library. It sees only the rooms that it depends on.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
find_package(Threads REQUIRED)

add_library(cria_flags INTERFACE)
target_include_directories(cria_flags INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/native)
target_link_libraries(cria_flags INTERFACE Threads::Threads)
target_compile_options(cria_flags INTERFACE
  -Wall -Wextra -Wshadow -Wno-missing-field-initializers
  # The order of summation is part of each op's contract: a*b+c is fused only where the source says so.
  -ffp-contract=off
  -ffunction-sections -fdata-sections)
if(CRIA_SANITIZE)
  target_compile_options(cria_flags INTERFACE
    -fsanitize=${CRIA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(cria_flags INTERFACE -fsanitize=${CRIA_SANITIZE})
endif()
if(CRIA_FUZZ)
  target_compile_options(cria_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# cria_room(<name> SOURCES <files below native/<name>>... DEPENDS <rooms>...)
function(cria_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND native/${name}/)
  add_library(cria_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(cria_${name} PUBLIC cria_flags)
  foreach(room IN LISTS ARG_DEPENDS)
    target_link_libraries(cria_${name} PUBLIC cria_${room})
  endforeach()
endfunction()
