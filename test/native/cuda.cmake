# The CUDA kernels, executed on the CPU (test/cuda_emulation), and on a device where CRIA_CUDA is on.
if(NOT CRIA_TESTS)
  return()
endif()
include(CheckCXXCompilerFlag)

list(TRANSFORM CRIA_CUDA_KERNELS PREPEND ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ OUTPUT_VARIABLE cuda_kernels)
list(TRANSFORM CRIA_CUDA_HOST_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ OUTPUT_VARIABLE cuda_host)
set(cuda_emulator async_copy.cc device_memory.cc fiber.cc grid.cc meetings.cc ptx_twins.cc race.cc runtime_twin.cc shared_memory.cc)
list(TRANSFORM cuda_emulator PREPEND ${CMAKE_SOURCE_DIR}/test/cuda_emulation/)
set(cuda_tests cuda/attention_test.cc cuda/elementwise_test.cc cuda/product_test.cc cuda/ptx_test.cc cuda/sample_test.cc)
set(cuda_emulator_tests cuda/mutation_test.cc)
set(cuda_test_kernels mutants.cu ptx_kernels.cu)
list(TRANSFORM cuda_test_kernels PREPEND ${CMAKE_CURRENT_LIST_DIR}/cuda/)

# In this folder a .cu file is C++ for the host's compiler.
set_source_files_properties(${cuda_kernels} ${cuda_test_kernels} PROPERTIES LANGUAGE CXX)

# cria_emulated_kernels(<target> <files>...): kernels for the emulator.
function(cria_emulated_kernels target)
  add_library(${target} STATIC ${ARGN})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/test PRIVATE ${CMAKE_SOURCE_DIR}/test/native)
  target_compile_definitions(${target} PUBLIC CRIA_CUDA_EMULATED)
  # -fno-lifetime-dse: the NaN in fresh shared memory is there to be read.
  target_compile_options(${target} PRIVATE -x c++ $<$<CXX_COMPILER_ID:GNU>:-fno-lifetime-dse> -Wno-unknown-pragmas)
  target_link_libraries(${target} PUBLIC cria_core)
endfunction()

cria_emulated_kernels(cria_cuda_emulated ${cuda_kernels} ${cuda_host} ${cuda_emulator})
cria_emulated_kernels(cria_cuda_test_kernels ${cuda_test_kernels})
cria_native_test(cuda_emulated ROOM cuda_emulated SOURCES ${cuda_tests} ${cuda_emulator_tests})
target_link_libraries(test_cuda_emulated PRIVATE cria_cuda_test_kernels cria_cuda_emulated cria_sampler)

# Once more with kernels that report every access to memory: races, and accesses out of bounds. The hooks are
# race_hooks.cc; libtsan is not linked. A build that is sanitized anyway has no room for both.
if(NOT CRIA_SANITIZE)
  cria_emulated_kernels(cria_cuda_race_kernels ${cuda_kernels} ${cuda_test_kernels})
  target_compile_options(cria_cuda_race_kernels PRIVATE -fsanitize=thread -g1)
  cria_emulated_kernels(cria_cuda_race ${cuda_host} ${cuda_emulator} ${CMAKE_SOURCE_DIR}/test/cuda_emulation/race_hooks.cc)
  cria_native_test(cuda_race ROOM cuda_race SOURCES ${cuda_tests} ${cuda_emulator_tests})
  target_link_libraries(test_cuda_race PRIVATE cria_cuda_race_kernels cria_cuda_race cria_sampler)
  target_link_options(test_cuda_race PRIVATE -u __tsan_read4)  # in race_hooks.cc
endif()

# The same tests on a device; skipped where there is none.
if(CRIA_HAVE_CUDA)
  add_executable(test_cuda_device cuda/device_main.cc ${cuda_tests})
  target_link_libraries(test_cuda_device PRIVATE cria_cuda_test_kernels_device cria_cuda cria_sampler doctest::doctest)
  target_include_directories(test_cuda_device PRIVATE ${CMAKE_CURRENT_LIST_DIR})
  add_test(NAME cuda_device COMMAND test_cuda_device)
  set_tests_properties(cuda_device PROPERTIES SKIP_RETURN_CODE 77)
endif()
