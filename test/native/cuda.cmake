# The CUDA kernels, executed on the CPU (test/cuda_emulation), and on a device where CRIA_CUDA is on.
if(NOT CRIA_TESTS OR CRIA_SANITIZE MATCHES "thread")  # ThreadSanitizer does not know the emulator's fibers
  return()
endif()

list(TRANSFORM CRIA_CUDA_KERNELS PREPEND ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ OUTPUT_VARIABLE cuda_kernels)
list(TRANSFORM CRIA_CUDA_HOST_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ OUTPUT_VARIABLE cuda_host)
set(cuda_emulator async_copy.cc collectives.cc device_memory.cc fiber.cc grid.cc ptx_twins.cc race.cc runtime_twin.cc shared_memory.cc)
list(TRANSFORM cuda_emulator PREPEND ${CMAKE_SOURCE_DIR}/test/cuda_emulation/)
set(cuda_tests cuda/attention_test.cc cuda/convert_test.cc cuda/elementwise_test.cc cuda/experts_test.cc
  cuda/kv_cache_test.cc cuda/matmul_test.cc
  cuda/product_test.cc cuda/ptx_test.cc cuda/runtime_test.cc cuda/sample_test.cc)
set(cuda_emulator_tests cuda/mutation_test.cc cuda/runtime_twin_test.cc)
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

# The whole backend on the emulated device: what links cria_cuda_backend_emulated has the device "cuda-emulated".
cria_cuda_backend(cria_cuda_backend_emulated ${CRIA_CUDA_BACKEND_SOURCES})
target_link_libraries(cria_cuda_backend_emulated PUBLIC cria_cuda_emulated)

cria_native_test(cuda_emulated ROOM cuda_emulated SOURCES ${cuda_tests} ${cuda_emulator_tests})
target_link_libraries(test_cuda_emulated PRIVATE cria_cuda_test_kernels cria_cuda_emulated cria_kernels cria_sampler)

# cria_emulated_test(<name> SOURCES <files>...): a test program whose device is the emulated one.
function(cria_emulated_test name)
  cria_native_test(${name} ROOM engine CUDA cria_cuda_backend_emulated ${ARGN})
  target_compile_definitions(test_${name} PRIVATE CRIA_TEST_DEVICE="cuda-emulated")
endfunction()
cria_emulated_test(cuda_backend SOURCES cuda/backend_test.cc cuda/elementary_test.cc cuda/split_test.cc
                     kernels/experts_test.cc kernels/ops_test.cc)
cria_emulated_test(cuda_engine SOURCES engine/engine_test.cc engine/batching_test.cc)

# Once more with kernels that report every access to memory: races, and accesses out of bounds. The hooks are
# race_hooks.cc; libtsan is not linked. A build that is sanitized anyway has no room for both.
if(NOT CRIA_SANITIZE)
  cria_emulated_kernels(cria_cuda_race_kernels ${cuda_kernels} ${cuda_test_kernels})
  target_compile_options(cria_cuda_race_kernels PRIVATE -fsanitize=thread -g1)
  cria_emulated_kernels(cria_cuda_race ${cuda_host} ${cuda_emulator} ${CMAKE_SOURCE_DIR}/test/cuda_emulation/race_hooks.cc)
  cria_native_test(cuda_race ROOM cuda_race SOURCES ${cuda_tests} ${cuda_emulator_tests})
  target_link_libraries(test_cuda_race PRIVATE cria_cuda_race_kernels cria_cuda_race cria_kernels cria_sampler)
  target_link_options(test_cuda_race PRIVATE -u __tsan_read4)  # in race_hooks.cc
endif()

# The same tests on a device; skipped where there is none.
if(CRIA_HAVE_CUDA)
  add_executable(test_cuda_device cuda/device_main.cc ${cuda_tests})
  target_link_libraries(test_cuda_device PRIVATE cria_cuda_test_kernels_device cria_cuda cria_kernels cria_sampler doctest::doctest)
  target_include_directories(test_cuda_device PRIVATE ${CMAKE_CURRENT_LIST_DIR})
  add_test(NAME cuda_device COMMAND test_cuda_device)
  set_tests_properties(cuda_device PROPERTIES SKIP_RETURN_CODE 77)
endif()

# Product kernels, each broken in one place: the ordinary tests must fail on them. A mutation that no longer applies to
# the source is an error of the configuration.
# cria_cuda_mutant(<name> <file below native/kernels/cuda> <kernel that is compiled> <text> <text instead> [<test>])
function(cria_cuda_mutant name file kernel from to)
  set(test elementwise)
  if(ARGC GREATER 5)
    set(test ${ARGV5})
  endif()
  set(mutants ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/native/kernels/cuda/${file})
  file(READ ${CMAKE_SOURCE_DIR}/native/kernels/cuda/${file} source)
  string(FIND "${source}" "${from}" first)
  string(FIND "${source}" "${from}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "mutant ${name}: '${from}' must stand in ${file} exactly once")
  endif()
  string(REPLACE "${from}" "${to}" source "${source}")
  file(CONFIGURE OUTPUT ${mutants}/kernels/cuda/${file} CONTENT "${source}" @ONLY)
  set(compiled ${CMAKE_SOURCE_DIR}/native/kernels/cuda/${kernel})
  if(file STREQUAL kernel)
    set(compiled ${mutants}/kernels/cuda/${file})
  endif()
  set_source_files_properties(${compiled} PROPERTIES LANGUAGE CXX)
  cria_emulated_kernels(cria_cuda_mutant_${name} ${compiled})
  target_include_directories(cria_cuda_mutant_${name} BEFORE PRIVATE ${mutants})
  # The mutant is linked as an object, so the library's own version of the kernel is not taken.
  add_executable(test_cuda_mutant_${name} $<TARGET_OBJECTS:cuda_${test}_test>
    $<TARGET_OBJECTS:cria_cuda_mutant_${name}>)
  target_link_libraries(test_cuda_mutant_${name} PRIVATE cria_cuda_emulated cria_kernels cria_sampler)
  add_test(NAME cuda_mutant_${name} COMMAND test_cuda_mutant_${name})
  set_tests_properties(cuda_mutant_${name} PROPERTIES PASS_REGULAR_EXPRESSION "Status: FAILURE")
endfunction()

if(NOT CRIA_SANITIZE)  # which would end the program instead
  foreach(test attention convert elementwise experts matmul)
    add_library(cuda_${test}_test OBJECT doctest_main.cc cuda/${test}_test.cc)
    target_link_libraries(cuda_${test}_test PRIVATE cria_cuda_emulated doctest::doctest)
    target_include_directories(cuda_${test}_test PRIVATE ${CMAKE_CURRENT_LIST_DIR})
  endforeach()
  cria_cuda_mutant(rmsnorm_bounds rmsnorm.cu rmsnorm.cu "i < n; i += kThreads) out_row" "i <= n; i += kThreads) out_row")
  cria_cuda_mutant(rmsnorm_chain rmsnorm.cu rmsnorm.cu "i += kThreads) squares" "i += kThreads + 1) squares")
  cria_cuda_mutant(block_sum_barrier device.cuh rmsnorm.cu
    "= x;\n  __syncthreads()" "= x")
  cria_cuda_mutant(add_rmsnorm_sum rmsnorm.cu rmsnorm.cu "    x[first + i] = sum;\n" "")
  cria_cuda_mutant(quantize_equals quantize.cu quantize.cu "index = warp_min(index);" "index = warp_max(index % 256);" convert)
  cria_cuda_mutant(write_kv_padding kv_copy.cu kv_copy.cu "key = d < a.head_dim ? k[at] : 0.0f" "key = k[at]" convert)
  cria_cuda_mutant(rope_bounds rope.cu rope.cu "p < args.n_heads * half" "p <= args.n_heads * half")
  cria_cuda_mutant(rope_order rope.cu rope.cu "const float first = a[0], second = a[step];" "const float &first = a[0], second = a[step];")
  cria_cuda_mutant(embed_row embed.cu embed.cu "token < static_cast<uint32_t>(vocab)" "token <= static_cast<uint32_t>(vocab)")
  cria_cuda_mutant(vector_barrier matmul_vector.cu matmul_vector.cu "    __syncthreads();\n" "" matmul)
  cria_cuda_mutant(vector_buffers matmul_vector.cu matmul_vector.cu "parity ^= 1" "parity = 0" matmul)
  cria_cuda_mutant(tiles_wait matmul_tiles.cuh matmul_tiles_floats.cu "cp_async_wait<1>()" "cp_async_wait<2>()" matmul)
  cria_cuda_mutant(tiles_barrier matmul_tiles.cuh matmul_tiles_floats.cu "__syncthreads();  // the chunk" "// the chunk" matmul)
  cria_cuda_mutant(experts_ties experts.cu experts.cu "bits == other.bits && inverse < other.inverse" "bits == other.bits && inverse > other.inverse" experts)
  cria_cuda_mutant(experts_syncwarp experts.cu experts.cu "exp_exact(logits[e] - top);\n  __syncwarp();" "exp_exact(logits[e] - top);" experts)
  cria_cuda_mutant(experts_barrier experts.cu experts.cu
    "shared.n_rows[e] = n;\n  }\n  __syncthreads();" "shared.n_rows[e] = n;\n  }" experts)
  cria_cuda_mutant(experts_alignment experts.cu experts.cu "+ alignment - 1) / alignment * alignment" ")" experts)
  cria_cuda_mutant(experts_padding experts.cu experts.cu "routes.token_of[row] = -1;" "" experts)
  cria_cuda_mutant(experts_empty_groups experts.cu experts.cu "i < plan.max_groups; i +=" "i < 0; i +=" experts)
  cria_cuda_mutant(groups_of_vector matmul_vector.cu matmul_vector.cu "static_cast<int>(blockIdx.y), n_chunks" "0, n_chunks" experts)
  cria_cuda_mutant(groups_of_tiles matmul_tiles.cuh matmul_tiles_floats.cu "token_block %= each;" "" experts)
  cria_cuda_mutant(product_up_scale matmul_formats.cuh matmul_f32.cu "is_up ? up.scale : own.scale" "own.scale" matmul)
  cria_cuda_mutant(silu_bounds swiglu.cu swiglu.cu "if (i < n)" "if (i <= n)")
  cria_cuda_mutant(attention_wait attention_mma.cuh attention.cu "    wait_for_copies(stages - 2);\n" "" attention)
  cria_cuda_mutant(attention_stage attention_mma.cuh attention.cu
    "    __syncthreads();\n    issue();" "    issue();\n    __syncthreads();" attention)
  cria_cuda_mutant(attention_decode_barrier attention_decode.cuh attention.cu
    "    __syncthreads();\n    const int n_valid" "    const int n_valid" attention)
  cria_cuda_mutant(attention_counter attention_decode.cuh attention.cu
    "if (is_last) store_release(counter, 0)" "if (false) store_release(counter, 0)" attention)
  cria_cuda_mutant(attention_causal attention_prefill.cuh attention.cu
    "position + kPage - 1 > range.first" "position > range.first" attention)
  cria_cuda_mutant(attention_unwritten attention_mma.cuh attention.cu
    "if (n_valid < kPage) v = " "if (false) v = " attention)
  cria_cuda_mutant(attention_span attention_decode.cuh attention.cu "    state.init();\n  }" "  }" attention)
  cria_cuda_mutant(attention_merge attention_softmax.cuh attention.cu
    "earlier = kExp(earlier_max - finite_max(max));" "earlier = 1.0f;" attention)
endif()

# The programs of bench/gpu, for a device; and on the emulated one with --shapes tiny, to see that they run.
function(cria_gpu_bench suffix cuda)
  foreach(name kernels generate)
    add_executable(bench_gpu_${name}${suffix} ${CMAKE_SOURCE_DIR}/bench/gpu/${name}.cc)
    target_include_directories(bench_gpu_${name}${suffix} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(bench_gpu_${name}${suffix} PRIVATE ${cuda} cria_engine)
  endforeach()
endfunction()
cria_gpu_bench(_emulated cria_cuda_backend_emulated)
foreach(name kernels generate)
  add_test(NAME bench_gpu_${name} COMMAND bench_gpu_${name}_emulated --shapes tiny)
endforeach()
if(CRIA_HAVE_CUDA)
  cria_gpu_bench("" cria_cuda_backend)
endif()
