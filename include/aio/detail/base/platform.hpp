#pragma once
// Checks what aiocxx needs of the compiler, its options, its standard library and the system. Every public header
// includes this file first, so that one sentence says what is missing, before another header fails with many.

#define AIO_DETAIL_MISSING
#if !defined(__linux__)
#error "aiocxx runs on Linux only: it needs epoll, eventfd and signalfd"
#elif defined(__clang__) && __clang_major__ < 16
#error "aiocxx needs clang 16 or later (earlier ones have no std::source_location with libstdc++) or g++ 13 or later"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#error "aiocxx needs g++ 13 or later, or clang 16 or later"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 13 && !defined(AIO_ALLOW_GCC_12)
// clang-format off
#error "aiocxx refuses g++ 12: it destroys temporaries in co_await expressions twice, without a warning. \
Take clang 16 or later, or g++ 13 or later; or read the page internals/compilers of the documentation, \
check your code with aiocxx-check, and define AIO_ALLOW_GCC_12"
// clang-format on
#elif __cplusplus < 202002L
#error "aiocxx needs C++20: compile with -std=c++20 or later"
#elif !defined(__cpp_impl_coroutine)
#error "aiocxx needs coroutines: compile without -fno-coroutines"
#elif !defined(__cpp_exceptions)
#error "aiocxx needs exceptions: compile without -fno-exceptions"
#else
#undef AIO_DETAIL_MISSING
#include <version>
#if defined(_LIBCPP_VERSION) && !defined(__cpp_lib_jthread)
#define AIO_DETAIL_MISSING
// clang-format off
#error "aiocxx needs std::stop_token, which this libc++ does not have: \
take libc++ 20 or later, compile with -fexperimental-library, or take libstdc++"
// clang-format on
#endif
#endif

#ifdef AIO_DETAIL_MISSING
#include <aio/detail/see_the_error_above>  // there is no such file: the compiler stops here
#endif
