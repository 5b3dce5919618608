#pragma once
// What every header needs to know of the compiler.

#include <aio/detail/base/platform.hpp>

#if defined(__SANITIZE_ADDRESS__)
#define AIO_DETAIL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define AIO_DETAIL_ASAN 1
#endif
#endif

// Deletes an overload, with a reason that says what to write instead. A compiler that knows C++26's delete("reason")
// shows the reason as the error; with other compilers the error points to the line where the reason stands.
#if defined(__clang__) && __clang_major__ >= 19
#define AIO_DETAIL_DELETE(why)       \
    _Pragma("clang diagnostic push") \
        _Pragma("clang diagnostic ignored \"-Wc++26-extensions\"") delete (why)_Pragma("clang diagnostic pop")
#else
#define AIO_DETAIL_DELETE(why) delete
#endif

// With AIO_CHECK_LIFETIMES clang warns where a coroutine is kept longer than the temporaries that it refers to: auto c
// = f("text"), a coroutine of a lambda that has gone. For that clang must know which functions are coroutines: each
// plain function that returns a coroutine must be marked with AIO_CORO_WRAPPER, or it does not compile. So this is not
// the default.
#if defined(AIO_CHECK_LIFETIMES) && defined(__clang__)
#if __has_cpp_attribute(clang::coro_lifetimebound)
#define AIO_DETAIL_CORO [[clang::coro_return_type, clang::coro_lifetimebound]]
#define AIO_CORO_WRAPPER [[clang::coro_wrapper]]
#define AIO_DETAIL_WRAPPER [[clang::coro_wrapper, clang::coro_disable_lifetimebound]]
#endif
#endif
#ifndef AIO_DETAIL_CORO
#define AIO_DETAIL_CORO
#define AIO_CORO_WRAPPER
#define AIO_DETAIL_WRAPPER
#endif

// clang before 19 may spill locals of an inlined await_suspend into a frame that has been published already
// (llvm#56301).
#if defined(__clang__) && __clang_major__ < 19
#define AIO_DETAIL_SUSPEND [[gnu::noinline]]
#else
#define AIO_DETAIL_SUSPEND
#endif

// AIO_API marks data that is known by its address, and the types of exceptions: a shared library and all code that uses
// it must see the same ones, also code that is compiled with -fvisibility=hidden.
#define AIO_API [[gnu::visibility("default")]]
