cria_native_test(io ROOM io
  SOURCES io/atomic_file_test.cc io/byte_cursor_test.cc io/file_test.cc io/gguf_test.cc
          io/gguf_malformed_test.cc io/gguf_split_test.cc io/gguf_shared_data_test.cc io/kv_state_file_test.cc
          io/kv_state_write_test.cc io/safetensors_test.cc io/assembled_source_test.cc
          io/hf_folder_test.cc io/meta_folder_test.cc core/error_test.cc core/hash_test.cc core/json_test.cc)
cria_native_test(config ROOM model
  SOURCES io/config_test.cc io/config_experts_test.cc io/config_rope_test.cc io/config_shared_data_test.cc
          io/fingerprint_test.cc io/folders_shared_data_test.cc io/adapter_gguf_test.cc io/adapter_peft_test.cc)

if(CRIA_FUZZ)
  add_executable(fuzz_gguf ${CMAKE_CURRENT_LIST_DIR}/../fuzz/gguf_fuzz.cc)
  target_link_libraries(fuzz_gguf PRIVATE ${CRIA_CUDA_BACKEND} cria_model)
  target_link_options(fuzz_gguf PRIVATE -fsanitize=fuzzer)
  add_executable(fuzz_adapter ${CMAKE_CURRENT_LIST_DIR}/../fuzz/adapter_fuzz.cc)
  target_include_directories(fuzz_adapter PRIVATE ${CMAKE_CURRENT_LIST_DIR})
  target_link_libraries(fuzz_adapter PRIVATE ${CRIA_CUDA_BACKEND} cria_model)
  target_link_options(fuzz_adapter PRIVATE -fsanitize=fuzzer)
  add_executable(fuzz_json ${CMAKE_CURRENT_LIST_DIR}/../fuzz/json_fuzz.cc)
  target_link_libraries(fuzz_json PRIVATE cria_core)
  target_link_options(fuzz_json PRIVATE -fsanitize=fuzzer)
  foreach(name kv_state safetensors checkpoint)
    add_executable(fuzz_${name} ${CMAKE_CURRENT_LIST_DIR}/../fuzz/${name}_fuzz.cc)
    target_link_libraries(fuzz_${name} PRIVATE cria_io)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endforeach()
endif()
