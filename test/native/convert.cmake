cria_native_test(convert ROOM convert
  SOURCES convert/mix_test.cc convert/quantizer_test.cc convert/importance_matrix_test.cc convert/converter_test.cc)

if(CRIA_FUZZ)
  add_executable(fuzz_imatrix ${CMAKE_CURRENT_LIST_DIR}/../fuzz/imatrix_fuzz.cc)
  target_link_libraries(fuzz_imatrix PRIVATE ${CRIA_CUDA_BACKEND} cria_convert)
  target_link_options(fuzz_imatrix PRIVATE -fsanitize=fuzzer)
endif()
