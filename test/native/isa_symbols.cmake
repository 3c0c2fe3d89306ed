# cmake -DNM=nm -DOBJECT=file.o -DLEVEL=avx2 -P isa_symbols.cmake
# Fails when an object compiled for one instruction set defines anything but its table: a weak or global inline function
# in it could be picked by the linker for baseline code, which then dies on a lesser machine.
execute_process(COMMAND ${NM} -C --defined-only ${OBJECT} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" lines "${symbols}")
set(tables 0)
foreach(line IN LISTS lines)
  if(line MATCHES "^[0-9a-f]+ [a-z] " AND NOT line MATCHES "^[0-9a-f]+ [vwu] ")
    continue()  # local to the object
  endif()
  if(line STREQUAL "")
    continue()
  endif()
  if(line MATCHES " cria::${LEVEL}::kernels$")
    math(EXPR tables "${tables} + 1")
  else()
    message(FATAL_ERROR "${LEVEL}: a symbol that is not local: ${line}")
  endif()
endforeach()
if(NOT tables EQUAL 1)
  message(FATAL_ERROR "${LEVEL}: expected one table of kernels, found ${tables}")
endif()
