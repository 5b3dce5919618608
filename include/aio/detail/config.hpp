#pragma once
// What every header needs to know of the compiler.

#if defined(__clang__) && __clang_major__ < 16
#error "aiocxx needs clang 16 or later (earlier ones have no std::source_location with libstdc++) or g++ 13 or later"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#error "aiocxx needs g++ 13 or later, or clang 16 or later"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 13 && !defined(AIO_ALLOW_GCC_12)
#error "aiocxx refuses g++ 12: it destroys temporaries in co_await expressions twice, without a warning. Take clang 16 or later, or g++ 13 or later; \
or read docs/compilers.md, check your code with aiocxx-check, and define AIO_ALLOW_GCC_12"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define AIO_DETAIL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define AIO_DETAIL_ASAN 1
#endif
#endif

// clang before 19 may spill locals of an inlined await_suspend into a frame that has been published already (llvm#56301).
#if defined(__clang__) && __clang_major__ < 19
#define AIO_DETAIL_SUSPEND [[gnu::noinline]]
#else
#define AIO_DETAIL_SUSPEND
#endif

// What must be the same in a shared library and in all code that uses it, also in code that is compiled with -fvisibility=hidden: data
// that is known by its address, and the types of exceptions.
#define AIO_API [[gnu::visibility("default")]]
