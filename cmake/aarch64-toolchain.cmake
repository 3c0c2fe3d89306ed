# Cross-compiles for 64-bit ARM Linux (Debian: g++-aarch64-linux-gnu), and runs the tests under QEMU's user
# emulation (qemu-user-static). QEMU_CPU chooses the processor: max, cortex-a53 (only the level neon), ...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)  # doctest is a header, the same for every processor

find_program(CRIA_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(CRIA_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${CRIA_QEMU} -L /usr/aarch64-linux-gnu)
endif()
