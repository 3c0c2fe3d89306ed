# Compiles the same kernel source once per instruction set; native/kernels/cpu/isa.cc chooses one at load
# time. The objects use no STL and have only symbols with internal linkage besides their table
# (test/native/isa_symbols.cmake checks it): the linker must never pick a weak inline function compiled for
# AVX-512 for a lesser machine.
string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" CRIA_PROCESSOR)
if(CRIA_PROCESSOR MATCHES "x86_64|amd64")
  set(CRIA_ISA_LEVELS avx2 avx_vnni avx512_vnni avx512_bf16)
  set(CRIA_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(CRIA_ISA_FLAGS_avx_vnni -mavx2 -mfma -mf16c -mavxvnni)
  set(CRIA_ISA_FLAGS_avx512_vnni
    -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # false alarms of gcc 12 in its own _mm512 headers
    list(APPEND CRIA_ISA_FLAGS_avx512_vnni -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  set(CRIA_ISA_FLAGS_avx512_bf16 ${CRIA_ISA_FLAGS_avx512_vnni} -mavx512bf16)
elseif(CRIA_PROCESSOR MATCHES "aarch64|arm64")
  set(CRIA_ISA_LEVELS neon neon_dotprod neon_i8mm)
  set(CRIA_ISA_FLAGS_neon -march=armv8-a)
  set(CRIA_ISA_FLAGS_neon_dotprod -march=armv8.2-a+dotprod)
  set(CRIA_ISA_FLAGS_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
else()
  set(CRIA_ISA_LEVELS)
endif()

# For quick builds: what is left out is never chosen at load.
set(CRIA_CPU_LEVELS "" CACHE STRING "Instruction-set levels to build, e.g. avx2;avx512_bf16. Empty: all")
if(CRIA_CPU_LEVELS)
  foreach(level IN LISTS CRIA_CPU_LEVELS)
    if(NOT level IN_LIST CRIA_ISA_LEVELS)
      message(FATAL_ERROR "CRIA_CPU_LEVELS: expected some of ${CRIA_ISA_LEVELS}, found ${level}")
    endif()
  endforeach()
  set(CRIA_ISA_LEVELS ${CRIA_CPU_LEVELS})
endif()

# cria_isa_kernels(<room> <source>): adds one object library per level of this processor to a room.
function(cria_isa_kernels room source)
  set(optimization -O3)
  if(CRIA_SANITIZE)  # Clang would otherwise take minutes per level
    set(small_tiles CRIA_SMALL_TILES=1)
    set(optimization -O1)
  endif()
  target_compile_definitions(cria_${room} PRIVATE ${small_tiles})
  foreach(level IN LISTS CRIA_ISA_LEVELS)
    set(target cria_kernels_${level})
    add_library(${target} OBJECT native/${room}/${source})
    target_link_libraries(${target} PRIVATE cria_flags)
    target_compile_options(${target} PRIVATE ${CRIA_ISA_FLAGS_${level}} ${optimization} -fno-exceptions -fno-rtti
      -fno-threadsafe-statics)
    target_compile_definitions(${target} PRIVATE CRIA_ISA=${level} CRIA_ISA_${level}=1
      ${small_tiles})
    target_sources(cria_${room} PRIVATE $<TARGET_OBJECTS:${target}>)
    target_compile_definitions(cria_${room} PUBLIC CRIA_HAVE_${level}=1)
  endforeach()
endfunction()
