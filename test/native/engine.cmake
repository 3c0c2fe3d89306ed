cria_native_test(engine ROOM engine
  SOURCES engine/engine_test.cc engine/batching_test.cc engine/page_pool_test.cc engine/scheduler_test.cc
          engine/scheduler_model_test.cc engine/sequence_test.cc engine/adapter_test.cc)
