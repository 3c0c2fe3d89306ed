cria_native_test(sampler ROOM sampler
  SOURCES sampler/philox_test.cc sampler/params_test.cc sampler/weights_test.cc sampler/sampler_test.cc
          sampler/sampler_reference.cc)
if(CRIA_TESTS)
  # Prints the time of a choice for the usual settings; no part of ctest.
  add_executable(bench_sampler ${CMAKE_CURRENT_LIST_DIR}/sampler/bench_sampler.cc)
  target_link_libraries(bench_sampler PRIVATE cria_sampler)
endif()
