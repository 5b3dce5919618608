#pragma once
// Tests are coroutines, named as sentences:
//
//     AIO_TEST("rule 102: a releaser that acquires again queues behind the waiter") {
//         aio::lock l;
//         co_await l.acquire();
//         EXPECT_TRUE(l.locked());
//     }
//
// They run on virtual time, so that they wait on events and never on the wall clock. AIO_REAL_TEST runs on the real
// clock, for what talks to sockets and threads. PLAIN_TEST is a plain function, for what calls run() itself. The suite
// is the file's name. EXPECT_* works inside coroutines; ASSERT_* does not (it returns): use AIO_REQUIRE.

#include <aio/aio.hpp>
#include <aio/testing.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include <malloc.h>
#include <unistd.h>

// Which sanitizers the tests are built with: 0 or 1, for #if and for if.
#if defined(__has_feature)
#define AIO_TEST_HAS(sanitizer) __has_feature(sanitizer)
#else
#define AIO_TEST_HAS(sanitizer) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || AIO_TEST_HAS(address_sanitizer)
#define AIO_TEST_ASAN 1
#else
#define AIO_TEST_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || AIO_TEST_HAS(thread_sanitizer)
#define AIO_TEST_TSAN 1
#else
#define AIO_TEST_TSAN 0
#endif
#define AIO_TEST_SANITIZED (AIO_TEST_ASAN || AIO_TEST_TSAN)
extern "C" [[gnu::weak]] std::size_t __sanitizer_get_current_allocated_bytes() noexcept;

using namespace std::chrono_literals;

namespace aio_test {

enum class time_of { virtual_clock, real_clock };

/// Registers a test. AIO_TEST and the other macros call this before main().
bool add(const char* file, int line, const char* sentence, aio::coro<> (*body)(), time_of time);
bool add(const char* file, int line, const char* sentence, void (*body)());

/// Thrown by AIO_REQUIRE: ends the test with a failure.
struct requirement_failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};
inline void require(bool condition, const char* text, std::source_location where = std::source_location::current()) {
    if (!condition) {
        throw requirement_failed(
            std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": required: " + text);
    }
}

/// Counts its instances: if alive is not 0 at the end of a test, something has leaked.
struct counted {
    static inline std::atomic<int> alive = 0;
    int value = 0;
    explicit counted(int v = 0) noexcept : value(v) { ++alive; }
    counted(const counted& o) noexcept : value(o.value) { ++alive; }
    counted(counted&& o) noexcept : value(o.value) { ++alive; }
    counted& operator=(const counted&) = default;
    counted& operator=(counted&&) = default;
    ~counted() { --alive; }
};

/// The lowest free descriptor. It rises if descriptors leak, so a test expects at the end that it is not above what it
/// was (EXPECT_LE). It may fall: a thread that an earlier test abandoned holds the eventfd of that test's loop until it
/// ends.
inline int lowest_free_descriptor() {
    const int fd = ::dup(0);
    ::close(fd);
    return fd;
}

/// The number of bytes that malloc has given out, or the allocator that replaces malloc under a sanitizer.
inline std::size_t bytes_in_use() {
    if (&__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    const struct mallinfo2 all = ::mallinfo2();
    return all.uordblks + all.hblkhd;
}

/// What happened, in order.
struct journal {
    std::vector<std::string> entries;
    void operator()(std::string entry) { entries.push_back(std::move(entry)); }
    std::string text() const {
        std::string all;
        for (const std::string& e : entries) all += (all.empty() ? "" : " ") + e;
        return all;
    }
};

/// Is called with the numbers of one source, and counts in wrong those that do not follow the number before.
struct in_order {
    int next = 0;
    int wrong = 0;
    void operator()(int n) {
        if (n != next) ++wrong;
        next = n + 1;
    }
};

/// For an exception handler: notes debug mode's report of a primitive that is destroyed while tasks wait, and leaves
/// out other reports, such as those of slow steps on a slow machine.
inline void note_destruction(std::vector<std::string>& told, const aio::exception_context& c) {
    if (c.message.find("destroyed while") != std::string::npos) told.push_back(c.message);
}

/// Suspends n times, and so lets everything that is ready run n times.
inline aio::coro<> turns(int n = 1) {
    for (int i = 0; i < n; ++i) co_await aio::sleep(0s);
}

}  // namespace aio_test

#define AIO_TEST_CAT2(a, b) a##b
#define AIO_TEST_CAT(a, b) AIO_TEST_CAT2(a, b)
#define AIO_TEST_ADD(time, sentence)                                                                \
    static aio::coro<> AIO_TEST_CAT(aio_test_body_, __LINE__)();                                    \
    [[maybe_unused]] static const bool AIO_TEST_CAT(aio_test_added_, __LINE__) =                    \
        aio_test::add(__FILE__, __LINE__, sentence, &AIO_TEST_CAT(aio_test_body_, __LINE__), time); \
    static aio::coro<> AIO_TEST_CAT(aio_test_body_, __LINE__)()
#define AIO_TEST(sentence) AIO_TEST_ADD(aio_test::time_of::virtual_clock, sentence)
#define AIO_REAL_TEST(sentence) AIO_TEST_ADD(aio_test::time_of::real_clock, sentence)
#define PLAIN_TEST(sentence)                                                                  \
    static void AIO_TEST_CAT(aio_test_body_, __LINE__)();                                     \
    [[maybe_unused]] static const bool AIO_TEST_CAT(aio_test_added_, __LINE__) =              \
        aio_test::add(__FILE__, __LINE__, sentence, &AIO_TEST_CAT(aio_test_body_, __LINE__)); \
    static void AIO_TEST_CAT(aio_test_body_, __LINE__)()
#define AIO_REQUIRE(...) aio_test::require(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__)
