# The CUDA kernels. nvcc compiles the sources where CRIA_CUDA says so (cria_cuda); for the tests, the host
# compiler compiles the same sources against test/cuda_emulation (cria_cuda_emulated, test/native/cuda.cmake).
set(CRIA_CUDA_KERNELS attention.cu ceilings.cu dequantize.cu embed.cu experts.cu kv_cache.cu kv_copy.cu
  matmul_activations.cu matmul_f32.cu matmul_rows.cu matmul_tiles_blocks256.cu matmul_tiles_blocks32.cu
  matmul_tiles_floats.cu matmul_vector.cu quantize.cu rmsnorm.cu rope.cu sample.cu softmax.cu swiglu.cu)
# Host code that belongs to the kernels, in both builds.
set(CRIA_CUDA_HOST_SOURCES attention_plan.cc ceilings.cc matmul.cc matmul_pack.cc runtime_error.cc)
set(CRIA_CUDA_BACKEND_SOURCES cuda_backend.cc cuda_elementary.cc cuda_experts.cc cuda_kv_cache.cc cuda_ops.cc cuda_weights.cc
  kv_page.cc pass_batch.cc pass_graphs.cc token_sampler.cc weight_upload.cc)
set(CRIA_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90a-real 100-real 120-real 90-virtual 120-virtual
  CACHE STRING "Architectures to compile the kernels for; PTX (virtual) serves later devices")

if(CRIA_CUDA STREQUAL "AUTO" OR CRIA_CUDA STREQUAL "ON")
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(CRIA_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
    if(CRIA_NVCC)
      set(CMAKE_CUDA_COMPILER ${CRIA_NVCC})
    endif()
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND CRIA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CRIA_CUDA=ON: nvcc was not found; name it with -DCMAKE_CUDA_COMPILER")
  endif()
endif()
if(CMAKE_CUDA_COMPILER AND NOT CRIA_CUDA STREQUAL "OFF")
  set(CRIA_HAVE_CUDA ON)
  set(CMAKE_CUDA_ARCHITECTURES ${CRIA_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know that nvcc 13 supports it
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  find_package(CUDAToolkit REQUIRED)
else()
  set(CRIA_HAVE_CUDA OFF)
endif()

# cria_cuda_kernels(<target> <files>...): a static library of kernels compiled by nvcc.
function(cria_cuda_kernels target)
  add_library(${target} STATIC ${ARGN})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/native)
  # -fmad=false: multiply-adds are fused only where the source says so (docs/numerics.md).
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xptxas=-v,-warn-spills -Werror=all-warnings --compress-mode=size
    -Xcompiler=-Wall,-ffp-contract=off,-fvisibility=hidden>)
  # ptxas_log.mjs keeps the output of -v for cmake/ptxas_report.mjs.
  set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER
    "node;${CMAKE_SOURCE_DIR}/cmake/ptxas_log.mjs")
  target_link_libraries(${target} PUBLIC CUDA::cudart_static Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()

# cria_cuda_backend(<target> <files below native/kernels/cuda>...): the objects that define the functions of
# cuda_backend.h. Every program links exactly one such target: this one, the emulated one
# (test/native/cuda.cmake) or cria_no_cuda.
function(cria_cuda_backend target)
  list(TRANSFORM ARGN PREPEND ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ OUTPUT_VARIABLE sources)
  add_library(${target} OBJECT ${sources})
  target_link_libraries(${target} PUBLIC cria_core)
endfunction()
cria_cuda_backend(cria_no_cuda no_cuda.cc)
set(CRIA_CUDA_BACKEND cria_no_cuda)  # the backend of the addon and of the tests

if(CRIA_HAVE_CUDA)
  list(TRANSFORM CRIA_CUDA_KERNELS PREPEND native/kernels/cuda/ OUTPUT_VARIABLE kernels)
  list(TRANSFORM CRIA_CUDA_HOST_SOURCES PREPEND native/kernels/cuda/ OUTPUT_VARIABLE host_sources)
  cria_cuda_kernels(cria_cuda ${kernels} ${host_sources} native/kernels/cuda/runtime.cc)
  target_link_libraries(cria_cuda PUBLIC cria_core)
  cria_cuda_backend(cria_cuda_backend ${CRIA_CUDA_BACKEND_SOURCES})
  target_link_libraries(cria_cuda_backend PUBLIC cria_cuda)
  set(CRIA_CUDA_BACKEND cria_cuda_backend)
  if(CRIA_TESTS)  # here, since test/native compiles .cu files as C++
    cria_cuda_kernels(cria_cuda_test_kernels_device
      test/native/cuda/mutants.cu test/native/cuda/ptx_kernels.cu)
    target_include_directories(cria_cuda_test_kernels_device PRIVATE test/native)
  endif()
endif()
