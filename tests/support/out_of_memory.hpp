#pragma once
// Runs a scenario again and again, and lets each allocation fail in its turn: the library's own and every operator new,
// so that those of the standard library fail, too. Each run is in a child process, so that an abort, a crash and a hang
// are a failure of one run.
//
//     PLAIN_TEST("fault C11: ...") { aio_test::survives_without_memory([]() -> aio::coro<> { ... }); }
//
// AIO_TEST_ALLOCATION=15 is for a debugger: it runs the scenario once, in this process, and lets allocation 15 fail.
// 15+ lets all later ones fail, too.
//
// Include this file once in a program: it replaces operator new.

#include "aio_test.hpp"
#include "loop/process_threads.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#if AIO_TEST_ASAN
#include <sanitizer/lsan_interface.h>
#endif

// ThreadSanitizer defines these operators itself, and they cannot be replaced. With it only the library's own
// allocations fail.
#if !AIO_TEST_TSAN
void* operator new(std::size_t bytes) {
    aio::testing::allocation();
    if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
    throw std::bad_alloc();
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    try {
        return ::operator new(bytes);
    } catch (const std::bad_alloc&) { return nullptr; }
}
void* operator new[](std::size_t bytes) { return ::operator new(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t& nothrow) noexcept {
    return ::operator new(bytes, nothrow);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace aio_test {

struct memory_options {
    bool real_time = false;    // for a scenario that waits for the kernel or for threads
    bool threads = false;      // the scenario starts threads
    std::size_t at_least = 2;  // the scenario makes at least this many allocations
};

namespace memory_detail {

enum verdict : int { survived = 10, through = 11, leaked = 12, wrong_error = 13, unusable = 14, descriptor = 15 };

/// Uses the loop after the failure: a lock, a queue, a task group and a timeout have to work.
inline aio::coro<int> something_ordinary() {
    aio::lock lock;
    aio::queue<std::string> queue(1);
    int done = 0;
    auto putter = [&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            const auto guard = co_await lock.scoped();
            co_await queue.put(std::string(40, 'x'));
        }
    };
    co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
        group.create_task(putter);
        for (int i = 0; i < 3; ++i) {
            const std::string item = co_await aio::wait_for(queue.get(), 5s);
            done += static_cast<int>(item.size());
        }
    });
    co_await aio::sleep(1ms);
    co_return done;
}

template<class Scenario>
aio::coro<bool> failing(Scenario& scenario, std::size_t allocation, bool and_all_after, int& result) {
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    aio::testing::set_step_hook([] { aio::detail::empty_free_lists(); });  // so that what needs a block allocates it
    std::exception_ptr error;
    aio::testing::testing_detail::fail_allocation(allocation, and_all_after);
    try {
        co_await scenario();
    } catch (...) { error = std::current_exception(); }
    const bool reached = aio::testing::testing_detail::allocation_failed();
    aio::testing::testing_detail::fail_allocation(std::nullopt);
    aio::testing::set_step_hook(nullptr);
    if (error && !(reached && aio::testing::testing_detail::is_bad_alloc(error))) {
        std::fprintf(stderr, "ended with %s\n", aio::detail::describe(error).c_str());
        result = wrong_error;
    }
    error = nullptr;
    const int done = co_await something_ordinary();
    if (done != 120) result = unusable;
    co_return reached;
}

template<class Scenario>
int run_in_child(Scenario& scenario, std::size_t allocation, bool and_all_after, memory_options options) {
    int result = survived;
    bool reached = true;
    const int descriptors = lowest_free_descriptor();
    const std::ptrdiff_t blocks = aio::testing::testing_detail::live_blocks();
    try {
        reached = aio::testing::run(
            failing(scenario, allocation, and_all_after, result), {.virtual_time = !options.real_time});
    } catch (...) {
        std::fprintf(stderr, "run() threw %s\n", aio::detail::describe(std::current_exception()).c_str());
        result = wrong_error;
    }
    if (counted::alive != 0) {
        std::fprintf(stderr, "%d instances are left\n", counted::alive.load());
        result = leaked;
    }
    if (aio::detail::only_thread()) {
        if (const std::ptrdiff_t left = aio::testing::testing_detail::live_blocks() - blocks; left != 0) {
            std::fprintf(stderr, "%td blocks are left\n", left);
            result = leaked;
        }
    }
    if (!options.real_time && lowest_free_descriptor() > descriptors) result = descriptor;
    if (result == survived && !reached) result = through;
    return result;
}

}  // namespace memory_detail

/// Checks that the scenario, whichever allocation fails, ends with std::bad_alloc, with a group of nothing else, or
/// well; that nothing leaks; and that the loop can be used afterwards.
template<class Scenario>
void survives_without_memory(Scenario scenario, memory_options options = {}) {
    using namespace memory_detail;
#if AIO_TEST_TSAN
    if (options.threads) GTEST_SKIP() << "a child of fork() cannot start threads under ThreadSanitizer";
#endif
    if (const char* only = std::getenv("AIO_TEST_ALLOCATION")) {
        const int result =
            run_in_child(scenario, std::strtoul(only, nullptr, 10), std::strchr(only, '+') != nullptr, options);
        EXPECT_TRUE(result == survived || result == through) << result;
        return;
    }
    for (const bool and_all_after : {false, true}) {
        std::size_t allocation = 0;
        for (; allocation < 2000; allocation += AIO_TEST_SANITIZED ? 1 + allocation % 5 : 1) {
            std::FILE* const said = std::tmpfile();
            ASSERT_TRUE(said);
            const pid_t child = ::fork();
            ASSERT_GE(child, 0) << std::strerror(errno);
            if (child == 0) {
                ::dup2(::fileno(said), 2);
                ::alarm(AIO_TEST_SANITIZED ? 60 : 20);
                const int result = run_in_child(scenario, allocation, and_all_after, options);
#if AIO_TEST_ASAN
                if (__lsan_do_recoverable_leak_check()) ::_exit(leaked);
#endif
                ::_exit(result);
            }
            int status = 0;
            ASSERT_EQ(::waitpid(child, &status, 0), child);
            const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
            if (code == through) {
                std::fclose(said);
                break;
            }
            if (code != survived) {
                static const std::map<int, const char*> names{{leaked, "something leaked"},
                    {wrong_error, "it ended with another error"}, {unusable, "the loop was of no use afterwards"},
                    {descriptor, "a descriptor leaked"}};
                std::string text(4000, '\0');
                std::rewind(said);
                text.resize(std::fread(text.data(), 1, text.size(), said));
                const auto name = names.find(code);
                ADD_FAILURE() << "allocation " << allocation << (and_all_after ? " and all after it" : "")
                              << " failed: "
                              << (WIFSIGNALED(status)          ? ::strsignal(WTERMSIG(status))
                                         : name != names.end() ? name->second
                                                               : "it ended")
                              << " (" << code << ")\n"
                              << text;
            }
            std::fclose(said);
        }
#if !AIO_TEST_TSAN
        EXPECT_GE(allocation, options.at_least);
#endif
    }
}

}  // namespace aio_test
