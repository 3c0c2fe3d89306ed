cria_native_test(tokenizer ROOM tokenizer
  SOURCES tokenizer/reference.cc tokenizer/unicode_test.cc tokenizer/pretokenize_test.cc
          tokenizer/vocabulary_test.cc tokenizer/vocabulary_files_test.cc tokenizer/spm_test.cc tokenizer/bpe_test.cc
          tokenizer/special_tokens_test.cc tokenizer/stream_decoder_test.cc
          tokenizer/random_vocabularies_test.cc tokenizer/concurrency_test.cc)
cria_native_test(tokenizer_files ROOM engine
  SOURCES tokenizer/vocabulary_gguf_test.cc tokenizer/shared_vectors_test.cc)

if(CRIA_TESTS)
  add_executable(bench_tokenizer ${CMAKE_CURRENT_LIST_DIR}/../../bench/tokenizer.cc)
  target_link_libraries(bench_tokenizer PRIVATE ${CRIA_CUDA_BACKEND} cria_engine)
endif()
if(CRIA_FUZZ)
  add_executable(fuzz_tokenizer ${CMAKE_CURRENT_LIST_DIR}/../fuzz/tokenizer_fuzz.cc
    ${CMAKE_CURRENT_LIST_DIR}/tokenizer/reference.cc)
  target_include_directories(fuzz_tokenizer PRIVATE ${CMAKE_SOURCE_DIR}/test/native)
  target_link_libraries(fuzz_tokenizer PRIVATE cria_tokenizer)
  target_link_options(fuzz_tokenizer PRIVATE -fsanitize=fuzzer)
  add_executable(fuzz_tokenizer_files ${CMAKE_CURRENT_LIST_DIR}/../fuzz/tokenizer_files_fuzz.cc)
  target_include_directories(fuzz_tokenizer_files PRIVATE ${CMAKE_SOURCE_DIR}/test/native)
  target_link_libraries(fuzz_tokenizer_files PRIVATE cria_tokenizer)
  target_link_options(fuzz_tokenizer_files PRIVATE -fsanitize=fuzzer)
endif()
