# Gives what a static library has of Boost's and nlohmann's templates names of its own, boost becomes aio_boost: the linker would put a
# program's version of them and this one together, as the names are the same. A shared library has aiocxx.map for this.
# cmake -DARCHIVE=<library> -DNM=<nm> -DOBJCOPY=<objcopy> -P own_names.cmake
execute_process(COMMAND ${NM} -P ${ARCHIVE} OUTPUT_VARIABLE symbols ERROR_VARIABLE said RESULT_VARIABLE result)
string(REGEX MATCHALL "[^\n ]*(5boost|8nlohmann)[^\n ]*" names "${symbols}")
list(REMOVE_DUPLICATES names)
set(renamed "")
foreach(name IN LISTS names)
    string(REPLACE 5boost 9aio_boost own "${name}")
    string(REPLACE 8nlohmann 12aio_nlohmann own "${own}")
    string(APPEND renamed "${name} ${own}\n")
endforeach()
if(renamed)
    file(WRITE ${ARCHIVE}.names "${renamed}")
    execute_process(COMMAND ${OBJCOPY} --redefine-syms=${ARCHIVE}.names ${ARCHIVE} ERROR_VARIABLE said RESULT_VARIABLE result)
endif()
if(result) # with link-time optimization the library has no symbols yet
    message(STATUS "aiocxx: ${ARCHIVE} keeps the names of Boost and nlohmann: ${said}")
endif()
