# Functions that CMakeLists.txt and the folders below it share.

# Chooses clang for this project if it is installed and no other compiler was named. Call this before project().
macro(aio_prefer_clang)
    if(NOT DEFINED CMAKE_CXX_COMPILER AND NOT DEFINED ENV{CXX} AND CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
        set(names clang++-19)
        foreach(version RANGE 40 16 -1)
            list(APPEND names clang++-${version})
        endforeach()
        find_program(AIO_CLANG NAMES ${names} DOC "The clang that is taken as the compiler")
        if(AIO_CLANG)
            set(CMAKE_CXX_COMPILER ${AIO_CLANG})
        endif()
    endif()
endmacro()

# Refuses the compilers whose coroutines are known to be broken.
function(aio_check_compiler)
    set(id ${CMAKE_CXX_COMPILER_ID})
    set(found "${id} ${CMAKE_CXX_COMPILER_VERSION} (${CMAKE_CXX_COMPILER})")
    set(way_out "On Debian 12: apt-get install clang-19 libclang-rt-19-dev, then configure a new build folder with CXX=clang++-19.")
    if(id STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16)
        message(FATAL_ERROR "aiocxx needs clang 16 or later, or g++ 13 or later; this is ${found}. ${way_out}")
    elseif(id STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
        message(FATAL_ERROR "aiocxx needs g++ 13 or later, or clang 16 or later; this is ${found}. ${way_out}")
    elseif(id STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13 AND NOT AIO_ALLOW_GCC_12)
        message(FATAL_ERROR "aiocxx refuses g++ 12, which destroys temporaries in co_await expressions twice, without a warning; this is "
            "${found}. Take clang 16 or later, or g++ 13 or later. ${way_out} Who has read the page \"Compilers\" of its "
            "documentation (internals/compilers) and checks the code with aiocxx-check sets -DAIO_ALLOW_GCC_12=ON.")
    elseif(NOT id MATCHES "^(Clang|GNU)$")
        message(WARNING "aiocxx is tested with clang and g++ alone; this is ${found}.")
    endif()
endfunction()

# Stops with the name of the Debian package if find_package(<package>) found nothing.
function(aio_require package debian_package option)
    if(NOT ${package}_FOUND)
        message(FATAL_ERROR "aiocxx: ${option}=ON needs ${package}, which was not found. "
            "On Debian: apt-get install ${debian_package}. Or leave it out: -D${option}=OFF.")
    endif()
endfunction()

# Turns warnings on for our own targets. Users of the library do not inherit them.
function(aio_warnings target)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
    if(AIO_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
        if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
            # False positives of g++ 12 to 15 in coroutines.
            target_compile_options(${target} PRIVATE
                -Wno-error=free-nonheap-object -Wno-error=maybe-uninitialized -Wno-error=tsan)
        endif()
    endif()
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
endfunction()

# aio_add_library(core aiocxx SOURCES <globs> HEADERS <globs> [EXCEPT <regex of header names>])
# Adds the library `aiocxx`, known to users as aio::core. Its headers are a file set: they are installed with the library, and
# the target all_verify_interface_header_sets compiles each of them alone (./dev lint).
function(aio_add_library component target)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "EXCEPT" "SOURCES;HEADERS")
    file(GLOB sources CONFIGURE_DEPENDS ${arg_SOURCES})
    file(GLOB headers CONFIGURE_DEPENDS ${arg_HEADERS})
    if(arg_EXCEPT)
        list(FILTER headers EXCLUDE REGEX ${arg_EXCEPT})
    endif()
    add_library(${target} ${sources})
    add_library(aio::${component} ALIAS ${target})
    target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${headers})
    target_include_directories(${target} PRIVATE src)
    target_compile_options(${target} PRIVATE -frtti) # it names the types of errors, also where the project has no RTTI
    target_compile_features(${target} PUBLIC cxx_std_20)
    if(AIO_ALLOW_GCC_12) # users of an installed package allow it for themselves: see aiocxxConfig.cmake
        target_compile_definitions(${target} PUBLIC $<BUILD_INTERFACE:AIO_ALLOW_GCC_12>)
    endif()
    set_target_properties(${target} PROPERTIES
        EXPORT_NAME ${component} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} VERIFY_INTERFACE_HEADER_SETS ON)
    # The libraries export all that is theirs, whatever the visibility of the code that uses them.
    set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET default VISIBILITY_INLINES_HIDDEN OFF)
    # What comes from Boost and nlohmann/json is not theirs.
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "SHARED_LIBRARY")
        target_link_options(${target} PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/aiocxx.map)
        set_target_properties(${target} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/aiocxx.map)
    elseif(CMAKE_NM AND CMAKE_OBJCOPY)
        add_custom_command(TARGET ${target} POST_BUILD VERBATIM COMMAND ${CMAKE_COMMAND} -DARCHIVE=$<TARGET_FILE:${target}> -DNM=${CMAKE_NM}
            -DOBJCOPY=${CMAKE_OBJCOPY} -P ${PROJECT_SOURCE_DIR}/cmake/own_names.cmake)
    endif()
    if(NOT DEFINED CMAKE_POSITION_INDEPENDENT_CODE) # so that a static library can become part of a plugin
        set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    endif()
    aio_warnings(${target})
endfunction()

# aio_install(http aiocxx_http PKG_CONFIG aiocxx-http REQUIRES "libcurl" LIBS "-lwslay")
# Installs the library with its headers, exported target and pkg-config file. REQUIRES are the pkg-config modules and LIBS the other
# libraries that a static library needs; a shared one names its own. There are two install components: `http` has the shared library,
# `http-dev` all that one needs to build with it.
function(aio_install component target)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "PKG_CONFIG;REQUIRES;LIBS" "")
    install(TARGETS ${target} EXPORT aiocxx-${component}
        LIBRARY COMPONENT ${component} NAMELINK_COMPONENT ${component}-dev
        ARCHIVE COMPONENT ${component}-dev
        FILE_SET HEADERS COMPONENT ${component}-dev)
    install(EXPORT aiocxx-${component} NAMESPACE aio:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/aiocxx
        FILE aiocxx-${component}.cmake COMPONENT ${component}-dev)
    export(EXPORT aiocxx-${component} NAMESPACE aio:: FILE ${PROJECT_BINARY_DIR}/aiocxx-${component}.cmake) # aiocxx_DIR=<build folder>

    set(name ${arg_PKG_CONFIG})
    set(description "${PROJECT_DESCRIPTION}: ${component}")
    set(requires "")
    set(libs "")
    if(NOT component STREQUAL "core")
        set(requires "aiocxx = ${PROJECT_VERSION}")
    endif()
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "STATIC_LIBRARY") # so that plain `pkg-config --libs` links
        string(STRIP "${requires} ${arg_REQUIRES}" requires)
        set(libs "${arg_LIBS}")
    endif()
    file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/") # LIBDIR may be lib/x86_64-linux-gnu
    string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
    configure_file(${PROJECT_SOURCE_DIR}/cmake/aiocxx.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT ${component}-dev)
endfunction()
