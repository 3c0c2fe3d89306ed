cria_native_test(formats ROOM kernels SOURCES kernels/formats_test.cc)
cria_native_test(kernels ROOM kernels SOURCES
  kernels/attention_test.cc kernels/elementary_test.cc kernels/elementwise_test.cc kernels/experts_test.cc
  kernels/matmul_test.cc kernels/ops_test.cc kernels/adapter_ops_test.cc)
cria_native_test(cross_isa ROOM kernels SOURCES kernels/cross_isa_test.cc)
cria_native_test(thread_pool ROOM core SOURCES core/thread_pool_test.cc)

# Each instruction set's object may define its table and nothing else that the linker could merge with another's.
if(CRIA_TESTS AND CRIA_ISA_LEVELS)
  foreach(level IN LISTS CRIA_ISA_LEVELS)
    add_test(NAME isa_symbols_${level}
      COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DOBJECT=$<TARGET_OBJECTS:cria_kernels_${level}> -DLEVEL=${level}
              -P ${CMAKE_CURRENT_LIST_DIR}/isa_symbols.cmake)
  endforeach()
endif()

if(CRIA_TESTS)
  add_executable(bench_matmul ${CMAKE_SOURCE_DIR}/bench/matmul.cc)
  target_link_libraries(bench_matmul PRIVATE ${CRIA_CUDA_BACKEND} cria_kernels)
endif()
