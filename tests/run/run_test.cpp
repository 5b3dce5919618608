#include "aio_test.hpp"
#include "in_a_fork.hpp"

#include <aio/context_var.hpp>
#include <aio/executor.hpp>
#include <aio/file.hpp>
#include <aio/with.hpp>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <thread>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Calls ok() in a child process, because what it does ends the process or leaks on purpose. ok() gives whether all was
/// as expected.
int status_of_child(const std::function<bool()>& ok) {
    return aio_test::in_a_fork([&] {
        const bool good = ok();
        std::fflush(nullptr);
        return good ? 0 : 1;
    });
}
void in_child(const std::function<bool()>& ok) { EXPECT_EQ(status_of_child(ok), 0); }

/// How a run ended, in words.
template<class F>
std::string ending_of(F run) {
    try {
        run();
        return "returned";
    } catch (const aio::keyboard_interrupt& e) {
        return "keyboard_interrupt " + std::to_string(e.signal());
    } catch (const aio::cancelled_error& e) { return "cancelled " + e.message(); } catch (const std::exception& e) {
        return e.what();
    }
}

// ---- values and errors

PLAIN_TEST("run() gives what main gives: values, references, move-only values, nothing; and throws its error") {
    auto value = []() -> aio::coro<std::string> { co_return "value"; };
    EXPECT_EQ(aio::run(value()), "value");
    int n = 0;
    auto ref = [&]() -> aio::coro<int&> { co_return n; };
    static_assert(std::is_same_v<decltype(aio::run(ref())), int&>);
    EXPECT_EQ(&aio::run(ref()), &n);
    auto owner = []() -> aio::coro<std::unique_ptr<int>> {
        co_await aio::sleep(0s);
        co_return std::make_unique<int>(1);
    };
    EXPECT_EQ(*aio::run(owner()), 1);
    auto fails = []() -> aio::coro<int> {
        throw std::runtime_error("main's");
        co_return 0;
    };
    EXPECT_EQ(ending_of([&] { aio::run(fails()); }), "main's");
    auto cancelled = []() -> aio::coro<> {
        throw aio::cancelled_error("own");
        co_return;
    };
    EXPECT_EQ(ending_of([&] { aio::run(cancelled()); }), "cancelled own");
    auto empty = value();
    auto moved = std::move(empty);
    EXPECT_THROW(aio::run(std::move(empty)), std::logic_error);
    EXPECT_EQ(aio::run(std::move(moved)), "value");
}

PLAIN_TEST("get_running_loop() and handle() inside, none outside") {
    EXPECT_THROW(static_cast<void>(aio::get_running_loop()), std::logic_error);
    aio::loop_handle handle;
    auto main = [&]() -> aio::coro<> {
        handle = aio::get_running_loop().handle();
        EXPECT_TRUE(handle.running());
        co_return;
    };
    aio::run(main());
    EXPECT_FALSE(handle.running());
    EXPECT_THROW(handle.call_soon_threadsafe([] {}), std::logic_error);
    EXPECT_THROW(static_cast<void>(aio::get_running_loop()), std::logic_error);
}

// ---- rule 143

PLAIN_TEST("rule 143: running a loop inside a loop is an error, and the outer one goes on") {
    auto inner = []() -> aio::coro<int> { co_return 1; };
    auto outer = [&]() -> aio::coro<int> {
        EXPECT_THROW(aio::run(inner()), std::logic_error);
        aio::runner r;
        EXPECT_THROW(r.run(inner()), std::logic_error);
        EXPECT_THROW(static_cast<void>(aio::testing::run(inner())), std::logic_error);
        aio::get_running_loop().call_soon([&] { EXPECT_THROW(aio::run(inner()), std::logic_error); });
        co_await turns(2);
        EXPECT_TRUE(aio::current_task());
        co_return 2;
    };
    EXPECT_EQ(aio::run(outer()), 2);
    EXPECT_EQ(aio::run(inner()), 1);
}

PLAIN_TEST("rule 143: loops of two threads do not know of each other") {
    auto main = []() -> aio::coro<int> {
        co_await aio::sleep(1ms);
        co_return 1;
    };
    int got = 0;
    std::thread other([&] { got = aio::run(main()); });
    EXPECT_EQ(aio::run(main()), 1);
    other.join();
    EXPECT_EQ(got, 1);
}

// ---- rule 144

PLAIN_TEST("rule 144: what is left at the end is cancelled and awaited, clean-up included; main's result is kept") {
    journal log;
    auto left = [](journal& l, std::string name) -> aio::coro<> {
        counted local(1);
        std::exception_ptr error;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { error = std::current_exception(); }
        co_await aio::sleep(1ms);
        l(name);
        std::rethrow_exception(error);
    };
    auto main = [&]() -> aio::coro<int> {
        aio::create_task(left(log, "a"));
        aio::create_task(left(log, "b"));
        co_await turns();
        aio::create_task(left(log, "c"));  // still gets its first step, as in CPython
        co_return 5;
    };
    EXPECT_EQ(aio::run(main()), 5);
    EXPECT_EQ(log.text(), "a b c");
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("rule 144: the same after main has failed; its error is thrown") {
    bool cleaned = false;
    auto main = [&]() -> aio::coro<> {
        aio::create_task([&]() -> aio::coro<> {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {
                cleaned = true;
                throw;
            }
        });
        co_await turns();
        throw std::runtime_error("main's");
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "main's");
    EXPECT_TRUE(cleaned);
}

PLAIN_TEST("rule 144: errors of the tasks that are cancelled at the end are told, once each") {
    std::vector<std::string> told;
    std::vector<aio::task<>> kept;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
            told.push_back(c.task.name() + ": " + aio::detail::describe(c.error));
        });
        auto bad = []() -> aio::coro<> {
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error&) {}
            throw std::runtime_error("in clean-up");
        };
        aio::create_task(bad(), {.name = "dropped"});
        kept.push_back(aio::create_task(bad(), {.name = "kept"}));
        aio::create_task([]() -> aio::coro<> {
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error&) {  // swallowed, so the task ends well
            }
        });
        co_await turns();
    };
    aio::run(main());
    EXPECT_EQ(told,
        (std::vector<std::string>{
            "dropped: std::runtime_error: in clean-up", "kept: std::runtime_error: in clean-up"}));
}

PLAIN_TEST(
    "rule 144: tasks that the clean-up creates are awaited where it awaits them, and cancelled once it has ended") {
    journal log;
    auto main = [&]() -> aio::coro<> {
        aio::create_task([&]() -> aio::coro<> {
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error&) {}
            auto flush = aio::create_task([&]() -> aio::coro<> {
                co_await aio::sleep(1ms);
                log("flushed");
            });
            co_await flush;
            aio::create_task([&]() -> aio::coro<> {
                try {
                    co_await aio::sleep(1h);
                    log("wrong");
                } catch (const aio::cancelled_error&) { log("cancelled"); }
            });
            co_await turns();
        });
        co_await turns();
    };
    aio::run(main());
    EXPECT_EQ(log.text(), "flushed cancelled");
}

PLAIN_TEST("rule 144: a chain of tasks that await each other is cancelled as a whole") {
    int ended = 0;
    auto main = [&]() -> aio::coro<> {
        aio::task<> t = aio::create_task(aio::sleep_forever());
        for (int i = 0; i < 10; ++i) {
            t = aio::create_task(
                [](aio::task<> awaited, int& n) -> aio::coro<> {
                    try {
                        co_await awaited;
                    } catch (const aio::cancelled_error&) {
                        ++n;
                        throw;
                    }
                },
                t, std::ref(ended));
        }
        co_await turns(12);
    };
    aio::run(main());
    EXPECT_EQ(ended, 10);
}

PLAIN_TEST("rule 144: done callbacks of what ends last are still called") {
    journal log;
    auto main = [&]() -> aio::coro<> {
        auto t = aio::create_task(aio::sleep_forever());
        t.add_done_callback([&] { log("callback"); });
        co_await turns();
        aio::get_running_loop().call_soon([&] { log("soon"); });
    };
    aio::run(main());
    EXPECT_TRUE(contains(log.text(), "callback"));
    EXPECT_TRUE(contains(log.text(), "soon"));
}

// ---- rule 145

aio::context_var<int> ctx("ctx", -1);

PLAIN_TEST("rule 145: a runner runs several, keeps loop, tasks and context variables between them") {
    aio::runner r;
    auto swap_value = [](int value) -> aio::coro<int> {
        const int before = ctx.get();
        static_cast<void>(ctx.set(value));
        co_await aio::sleep(0s);
        co_return before;
    };
    EXPECT_EQ(r.run(swap_value(1)), -1);
    EXPECT_EQ(r.run(swap_value(2)), 1);
    EXPECT_EQ(ctx.get(), -1);
    int rounds = 0;
    auto start = [&]() -> aio::coro<aio::event_loop*> {
        aio::create_task([&]() -> aio::coro<> {
            for (;;) {
                ++rounds;
                co_await aio::sleep(0s);
            }
        });
        co_await turns(2);
        co_return &aio::get_running_loop();
    };
    aio::event_loop* loop = r.run(start());
    EXPECT_EQ(loop, &r.get_loop());
    const int before = rounds;
    EXPECT_EQ(r.run(swap_value(3)), 2);
    EXPECT_GT(rounds, before);
    auto fails = []() -> aio::coro<> {
        throw std::runtime_error("x");
        co_return;
    };
    EXPECT_THROW(r.run(fails()), std::runtime_error);
    EXPECT_EQ(r.run(swap_value(4)), 3);  // the runner goes on after an error
}

PLAIN_TEST("rule 145: close() is harmless the second time; afterwards run() is an error") {
    aio::runner r;
    bool cancelled = false;
    auto main = [&]() -> aio::coro<> {
        aio::create_task([&]() -> aio::coro<> {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) { cancelled = true; }
        });
        co_await turns();
    };
    r.run(main());
    EXPECT_FALSE(cancelled);
    r.close();
    EXPECT_TRUE(cancelled);
    r.close();
    auto again = []() -> aio::coro<> { co_return; };
    EXPECT_THROW(r.run(again()), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.get_loop()), std::logic_error);
    aio::runner unused;
    unused.close();
}

PLAIN_TEST("rule 25: main sees the context variables that were set outside, and changes none of them there") {
    std::thread([] {  // a thread, whose context variables end with it
        auto token = ctx.set(10);
        auto main = []() -> aio::coro<int> {
            const int seen = ctx.get();
            static_cast<void>(ctx.set(11));
            co_return seen;
        };
        EXPECT_EQ(aio::run(main()), 10);
        EXPECT_EQ(ctx.get(), 10);
        ctx.reset(token);
        EXPECT_EQ(ctx.get(), -1);
    })
        .join();
}

// ---- signals

PLAIN_TEST("rule 146: the first SIGINT cancels the main task; keyboard_interrupt leaves run()") {
    journal log;
    auto main = [&]() -> aio::coro<> {
        try {
            ::raise(SIGINT);
            log("runs on");
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            log("cancelled");
            throw;
        }
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "keyboard_interrupt 2");
    EXPECT_EQ(log.text(), "runs on cancelled");
    struct sigaction action{};
    ::sigaction(SIGINT, nullptr, &action);
    EXPECT_EQ(action.sa_handler, SIG_DFL);
}

PLAIN_TEST("rule 146: SIGINT wakes a loop that blocks, and ends one that spins") {
    std::atomic<bool> started = false;
    auto waits = [&]() -> aio::coro<> {
        started = true;
        co_await aio::sleep_forever();
    };
    const pthread_t self = ::pthread_self();
    std::thread killer([&] {
        while (!started) std::this_thread::yield();
        ::pthread_kill(self, SIGINT);
    });
    EXPECT_EQ(ending_of([&] { aio::run(waits()); }), "keyboard_interrupt 2");
    killer.join();
    auto spins = []() -> aio::coro<> {
        ::raise(SIGINT);
        for (;;) co_await aio::sleep(0s);
    };
    EXPECT_EQ(ending_of([&] { aio::run(spins()); }), "keyboard_interrupt 2");
}

PLAIN_TEST("rule 147: main that catches the cancellation and returns gives its own outcome") {
    auto returns = []() -> aio::coro<int> {
        ::raise(SIGINT);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_await aio::sleep(1ms);
        co_return 9;
    };
    EXPECT_EQ(aio::run(returns()), 9);
    auto fails = []() -> aio::coro<int> {
        ::raise(SIGINT);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        throw std::runtime_error("own");
    };
    EXPECT_EQ(ending_of([&] { aio::run(fails()); }), "own");
}

PLAIN_TEST("rule 147: keyboard_interrupt only if no other request to cancel main stands") {
    auto main = []() -> aio::coro<> {
        ::raise(SIGINT);
        aio::get_running_loop().call_later(5ms, [t = aio::current_task()]() mutable { t.cancel("another"); });
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "cancelled another");
}

PLAIN_TEST("rule 144: after SIGINT what is left is cancelled and awaited as ever") {
    bool cleaned = false;
    auto main = [&]() -> aio::coro<> {
        aio::create_task([&]() -> aio::coro<> {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {}
            co_await aio::sleep(1ms);
            cleaned = true;
        });
        co_await turns();
        ::raise(SIGINT);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "keyboard_interrupt 2");
    EXPECT_TRUE(cleaned);
}

PLAIN_TEST("rule 15: a keyboard_interrupt that main throws leaves run(); that of another task is stored as any error") {
    bool swallowed = false;
    auto interrupts = []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw aio::keyboard_interrupt();
    };
    auto main = [&]() -> aio::coro<> {
        try {
            co_await interrupts();
        } catch (const std::exception&) { swallowed = true; }
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "keyboard_interrupt 2");
    EXPECT_FALSE(swallowed);
    int told = 0;
    auto other = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { ++told; });
        aio::create_task(interrupts());
        auto kept = aio::create_task(interrupts());
        co_await turns(4);
        EXPECT_EQ(told, 1);
        EXPECT_THROW(kept.result(), aio::keyboard_interrupt);
        EXPECT_FALSE(kept.cancelled());
    };
    aio::run(other());
    EXPECT_EQ(told, 1);
}

PLAIN_TEST("rule 150: a child that was forked while no loop ran has loops and signals of its own") {
    aio::runner parent;
    auto one = []() -> aio::coro<int> {
        co_await aio::sleep(1ms);
        co_return 1;
    };
    EXPECT_EQ(parent.run(one()), 1);
    in_child([&] {
        auto interrupted = []() -> aio::coro<> {
            ::raise(SIGINT);
            co_await aio::sleep(1h);
        };
        return ending_of([&] { aio::run(interrupted()); }) == "keyboard_interrupt 2" && aio::run(one()) == 1;
    });
    EXPECT_EQ(parent.run(one()), 1);
}

PLAIN_TEST("rule 146: a handler of the program's own is left in place") {
    static int caught = 0;
    caught = 0;
    std::signal(SIGINT, [](int) { ++caught; });
    auto main = []() -> aio::coro<int> {
        ::raise(SIGINT);
        co_await aio::sleep(1ms);
        co_return 1;
    };
    EXPECT_EQ(aio::run(main()), 1);
    EXPECT_EQ(caught, 1);
    std::signal(SIGINT, SIG_DFL);
}

PLAIN_TEST("rule 146: only the main thread's loop hears of SIGINT") {
    std::string other_ended;
    std::atomic<bool> waiting = false;
    aio::loop_handle other_loop;
    aio::task_canceller end_other;
    std::thread other([&] {
        auto main = [&]() -> aio::coro<> {
            aio::future<> stop;
            aio::loop_handle handle = aio::get_running_loop().handle();
            other_loop = handle;
            end_other = aio::current_task().canceller();
            waiting = true;
            co_await stop;
        };
        other_ended = ending_of([&] { aio::run(main()); });
    });
    while (!waiting) std::this_thread::yield();
    auto main = []() -> aio::coro<> {
        ::raise(SIGINT);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "keyboard_interrupt 2");
    auto second = [&]() -> aio::coro<> {
        ::raise(SIGINT);
        std::atomic<int> turned = 0;  // the other loop keeps turning while a signal comes here
        for (int i = 0; i < 3; ++i) {
            other_loop.call_soon_threadsafe([&] { ++turned; });
            while (turned == i) std::this_thread::yield();
        }
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(second()); }), "keyboard_interrupt 2");
    end_other.cancel("by us");
    other.join();
    EXPECT_EQ(other_ended, "cancelled by us");
}

PLAIN_TEST("decision (h): SIGTERM as SIGINT where the options ask for it; otherwise it ends the process") {
    auto main = []() -> aio::coro<> {
        ::raise(SIGTERM);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(main(), {.handle_sigterm = true}); }), "keyboard_interrupt 15");
    const int status = status_of_child([&] {
        aio::run(main());
        return true;
    });
    EXPECT_EQ(status, -SIGTERM);
}

aio::coro<> nothing_to_do() { co_return; }
aio::coro<> stubborn() {
    co_await aio::defer(nothing_to_do);
    for (;;) {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {}
    }
}

PLAIN_TEST(
    "decisions (h), (l): a second signal ends the wait at once; what does not end is leaked and named, with its "
    "exits") {
    in_child([] {
        auto main = []() -> aio::coro<> {
            aio::create_task(stubborn(), {.name = "stubborn"});
            co_await turns();
            ::raise(SIGINT);
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error&) {}
            ::raise(SIGINT);
            co_await aio::sleep(1h);
        };
        testing::internal::CaptureStderr();
        const std::string ended = ending_of([&] { aio::run(main()); });
        const std::string printed = testing::internal::GetCapturedStderr();
        std::fprintf(stderr, "%s", printed.c_str());
        return ended == "keyboard_interrupt 2" && contains(printed, "stubborn") && contains(printed, "run_test.cpp:") &&
            contains(printed, "skipped the exit");
    });
}

PLAIN_TEST("decision (l): a second signal during the end of run() ends its wait, too") {
    in_child([] {
        auto main = []() -> aio::coro<int> {
            aio::create_task([]() -> aio::coro<> {
                try {
                    co_await aio::sleep_forever();
                } catch (const aio::cancelled_error&) {}
                ::raise(SIGINT);  // while run() waits for this task
                co_await aio::sleep_forever();
            });
            co_await turns();
            ::raise(SIGINT);
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {}
            co_return 3;
        };
        return aio::run(main()) == 3;
    });
}

PLAIN_TEST("decision (l): what does not end when a second signal ends the end of run() is leaked and named") {
    in_child([] {
        auto main = []() -> aio::coro<int> {
            aio::create_task(stubborn(), {.name = "stubborn"});
            aio::create_task([]() -> aio::coro<> {
                try {
                    co_await aio::sleep_forever();
                } catch (const aio::cancelled_error&) {}
                ::raise(SIGINT);
                ::raise(SIGINT);
            });
            co_await turns();
            co_return 3;
        };
        testing::internal::CaptureStderr();
        const std::string ended = ending_of([&] { aio::run(main()); });
        const std::string printed = testing::internal::GetCapturedStderr();
        return ended == "keyboard_interrupt 2" && contains(printed, "stubborn, created at") &&
            contains(printed, "did not end when it was forced to");
    });
}

PLAIN_TEST("decision (l): an ending that the second signal has forced leaks nothing that can end") {
    auto main = []() -> aio::coro<> {
        aio::create_task([c = counted(1)]() -> aio::coro<> {
            counted local(1);
            co_await aio::sleep_forever();
        });
        co_await turns();
        ::raise(SIGINT);
        ::raise(SIGINT);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(ending_of([&] { aio::run(main()); }), "keyboard_interrupt 2");
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("a signal between the runs of a runner does not reach the next one") {
    aio::runner r;
    auto interrupted = []() -> aio::coro<> {
        ::raise(SIGINT);
        co_await aio::sleep(1h);
    };
    auto fine = []() -> aio::coro<int> {
        co_await aio::sleep(1ms);
        co_return 1;
    };
    EXPECT_EQ(ending_of([&] { r.run(interrupted()); }), "keyboard_interrupt 2");
    EXPECT_EQ(r.run(fine()), 1);
    EXPECT_EQ(ending_of([&] { r.run(interrupted()); }), "keyboard_interrupt 2");
    EXPECT_EQ(r.run(fine()), 1);
}

// ---- deadlock

aio::coro<> wait_for_task(const aio::task<>& t) { co_await t; }

PLAIN_TEST("decision (i): when nothing can ever happen, deadlock_error names each task, what it waits for and where") {
    journal log;
    auto main = [&]() -> aio::coro<> {
        aio::task<> a, b;
        a = aio::create_task([&]() -> aio::coro<> { co_await wait_for_task(b); });
        b = aio::create_task({.name = "bee"}, [&]() -> aio::coro<> { co_await wait_for_task(a); });
        a.set_name("ay");
        try {
            co_await a;
        } catch (const aio::cancelled_error&) {
            log("main unwinds");
            throw;
        }
    };
    const std::string said = ending_of([&] { aio::run(main()); });
    EXPECT_TRUE(contains(said, "deadlock")) << said;
    EXPECT_TRUE(contains(said, "ay: waiting for task bee")) << said;
    EXPECT_TRUE(contains(said, "bee: waiting for task ay")) << said;
    EXPECT_TRUE(contains(said, "run_test.cpp:")) << said;
    EXPECT_TRUE(contains(said, "wait_for_task")) << said;
    EXPECT_EQ(log.text(), "main unwinds");
}

PLAIN_TEST("decision (i): in virtual time, too; and after a first SIGINT that was swallowed") {
    auto main = []() -> aio::coro<> {
        aio::future<> never;
        co_await never;
    };
    EXPECT_TRUE(contains(ending_of([&] { aio::testing::run(main(), {.virtual_time = true}); }), "a future"));
    auto interrupted = []() -> aio::coro<> {
        ::raise(SIGINT);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        aio::future<> never;
        co_await never;
    };
    EXPECT_TRUE(contains(ending_of([&] { aio::run(interrupted()); }), "deadlock"));
}

PLAIN_TEST("decision (i): a sleeping task, sleep_forever() and another thread are no deadlock") {
    auto timer = []() -> aio::coro<> {
        aio::future<> f;
        aio::get_running_loop().call_later(2ms, [f]() mutable { f.set_result(); });
        co_await f;
    };
    aio::run(timer());
    auto forever = []() -> aio::coro<> {
        aio::future<> f;
        auto sleeper = aio::create_task(aio::sleep_forever());
        aio::get_running_loop().call_later(1ms, [f]() mutable { f.set_result(); });
        co_await f;
    };
    aio::run(forever());
    auto threaded = []() -> aio::coro<> {
        aio::future<> f;
        std::atomic<bool> go = false;
        aio::loop_handle handle = aio::get_running_loop().handle();
        std::thread other([&] {
            while (!go) std::this_thread::yield();
            // By reference: a handle belongs to the loop's thread.
            handle.call_soon_threadsafe([&f] { f.set_result(); });
        });
        go = true;
        co_await f;
        other.join();
    };
    aio::run(threaded());
}

PLAIN_TEST("decision (l): after deadlock_error, what does not end when it is cancelled once more is leaked and named") {
    testing::internal::CaptureStderr();
    auto main = []() -> aio::coro<> {
        aio::create_task({.name = "swallows"}, []() -> aio::coro<> {
            for (;;) {
                try {
                    aio::future<> never;
                    co_await never;
                } catch (const aio::cancelled_error&) {}
            }
        });
        aio::future<> never;
        co_await never;
    };
    EXPECT_TRUE(contains(ending_of([&] { aio::run(main()); }), "deadlock"));
    // Leaked, without a report by leak checkers.
    EXPECT_TRUE(contains(testing::internal::GetCapturedStderr(), "swallows"));
}

PLAIN_TEST("decision (i): a deadlock of what is left at the end of run() is told, and run() returns") {
    testing::internal::CaptureStderr();
    auto main = []() -> aio::coro<int> {
        aio::create_task({.name = "hangs on"}, []() -> aio::coro<> {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {}
            aio::future<> never;
            co_await never;
        });
        co_await turns();
        co_return 4;
    };
    EXPECT_EQ(aio::run(main()), 4);
    EXPECT_TRUE(contains(testing::internal::GetCapturedStderr(), "hangs on"));
}

// ---- debug mode

PLAIN_TEST("debug mode: by option, by AIO_DEBUG, and the option goes first") {
    auto main = []() -> aio::coro<bool> { co_return aio::get_running_loop().debug(); };
    ::unsetenv("AIO_DEBUG");
    EXPECT_FALSE(aio::run(main()));
    EXPECT_TRUE(aio::run(main(), {.debug = true}));
    ::setenv("AIO_DEBUG", "1", 1);
    EXPECT_TRUE(aio::run(main()));
    EXPECT_FALSE(aio::run(main(), {.debug = false}));
    ::setenv("AIO_DEBUG", "0", 1);
    EXPECT_FALSE(aio::run(main()));
    ::setenv("AIO_DEBUG", "", 1);
    EXPECT_FALSE(aio::run(main()));
    ::unsetenv("AIO_DEBUG");
}

PLAIN_TEST("rule 142: debug mode tells a step of more than 100 ms, with the task's name and place; quick ones not") {
    std::vector<std::string> told;
    int line = 0;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { told.push_back(c.message); });
        auto t = aio::create_task({.name = "hog"}, [&]() -> aio::coro<> {
            line = __LINE__ + 1;
            co_await aio::sleep(0s);
            const auto start = aio::clock::now();
            while (aio::clock::now() - start < 110ms) {}
        });
        co_await t;
    };
    aio::run(main(), {.debug = true});
    AIO_REQUIRE(told.size() == 1);
    EXPECT_TRUE(contains(told[0], "hog")) << told[0];
    EXPECT_TRUE(contains(told[0], "run_test.cpp:" + std::to_string(line))) << told[0];
}

// Calls fn on another thread, where it has to throw an error that names what.
template<class F>
void names_its_mistake(const char* what, F fn) {
    std::string message = "nothing was thrown";
    try {
        fn();
    } catch (const std::logic_error& e) { message = e.what(); }
    EXPECT_TRUE(contains(message, what) && contains(message, "thread")) << what << ": " << message;
}

PLAIN_TEST("debug mode: use from another thread is a logic_error there, which names the mistake") {
    auto main = []() -> aio::coro<> {
        aio::event_loop& loop = aio::get_running_loop();
        aio::future<int> f;
        auto t = aio::create_task(aio::sleep(1h));
        aio::lock l;
        aio::semaphore s(0);
        aio::event e;
        aio::condition c;
        aio::barrier b(2);
        aio::queue<int> q;
        co_await l.acquire();
        std::vector<aio::task<>> waiting;  // by waiting they tie each primitive to this loop
        waiting.push_back(aio::create_task([&]() -> aio::coro<> { co_await l.acquire(); }));
        waiting.push_back(aio::create_task([&]() -> aio::coro<> { co_await s.acquire(); }));
        waiting.push_back(aio::create_task([&]() -> aio::coro<> { co_await e.wait(); }));
        waiting.push_back(aio::create_task([&]() -> aio::coro<> {
            const auto guard = co_await c.scoped();
            co_await c.wait();
        }));
        waiting.push_back(aio::create_task([&]() -> aio::coro<> { co_await b.wait(); }));
        waiting.push_back(aio::create_task([&]() -> aio::coro<> { co_await q.get(); }));
        co_await turns(2);
        auto callback = loop.call_later(1h, [] {});
        const auto id = f.add_done_callback([] {});
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            co_await aio::with(aio::timeout(1h), [&](aio::timeout& limit) {
                std::thread([&] {
                    names_its_mistake("set_result", [&] { f.set_result(1); });
                    names_its_mistake("set_exception", [&] { f.set_exception(std::runtime_error("x")); });
                    names_its_mistake("cancel", [&] { f.cancel(); });
                    names_its_mistake("add_done_callback", [&] { f.add_done_callback([] {}); });
                    names_its_mistake("remove_done_callback", [&] { f.remove_done_callback(id); });
                    names_its_mistake("cancel", [&] { t.cancel(); });
                    names_its_mistake("uncancel", [&] { t.uncancel(); });
                    names_its_mistake("thread", [&] { aio::create_task(aio::sleep(0s)); });
                    names_its_mistake("create_task", [&] { tg.create_task(aio::sleep(0s)); });
                    names_its_mistake("task_group::cancel", [&] { tg.cancel(); });
                    names_its_mistake("reschedule", [&] { limit.reschedule(std::nullopt); });
                    names_its_mistake("call_soon", [&] { loop.call_soon([] {}); });
                    names_its_mistake("call_later", [&] { loop.call_later(1s, [] {}); });
                    names_its_mistake("call_at", [&] { loop.call_at(aio::time_point(), [] {}); });
                    names_its_mistake("callback_handle::cancel", [&] { callback.cancel(); });
                    names_its_mistake("set_exception_handler", [&] { loop.set_exception_handler(nullptr); });
                    names_its_mistake("lock::release", [&] { l.release(); });
                    names_its_mistake("semaphore::release", [&] { s.release(); });
                    names_its_mistake("event::set", [&] { e.set(); });
                    names_its_mistake("event::clear", [&] { e.clear(); });
                    names_its_mistake("condition::notify", [&] { c.notify(); });
                    names_its_mistake("condition::notify", [&] { c.notify_all(); });
                    names_its_mistake("barrier::reset", [&] { b.reset(); });
                    names_its_mistake("barrier::abort", [&] { b.abort(); });
                    names_its_mistake("put_nowait", [&] { q.put_nowait(1); });
                    names_its_mistake("get_nowait", [&] { q.get_nowait(); });
                    names_its_mistake("task_done", [&] { q.task_done(); });
                    names_its_mistake("queue::shutdown", [&] { q.shutdown(); });
                }).join();
            });
        });
        f.set_result(2);
        EXPECT_EQ(f.result(), 2);
        t.cancel();
        for (auto& w : waiting) {
            EXPECT_FALSE(w.done());
            w.cancel();
        }
        l.release();
        co_await aio::wait(waiting);
    };
    aio::run(main(), {.debug = true});
}

}  // namespace

// ---- rule 150: fork ----

namespace {

/// Forks, and calls fn in the child, which gives whether all was as expected. Gives the child's exit status.
template<class F>
int forked(F fn) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        bool good = false;
        try {
            good = fn();
        } catch (...) {}
        ::_exit(good ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

template<class F>
bool refuses(F fn) {
    try {
        fn();
    } catch (const std::logic_error& e) { return contains(e.what(), "after fork()"); }
    return false;
}

}  // namespace

AIO_REAL_TEST(
    "rule 150: after fork() the child's use of its parent's loop is an error that says so, and the parent's loop goes "
    "on") {
    auto& loop = aio::get_running_loop();
    const auto handle = loop.handle();
    const int status = forked([&] {
        return refuses([] { aio::get_running_loop(); }) && refuses([] { aio::create_task([] {}); }) &&
            refuses([] { aio::future<> f; }) && refuses([&] { loop.call_soon([] {}); }) &&
            refuses([&] { loop.call_later(1s, [] {}); }) && refuses([&] { handle.call_soon_threadsafe([] {}); });
    });
    EXPECT_EQ(status, 0);
    co_await aio::sleep(1ms);
}

AIO_REAL_TEST(
    "rule 150: in the child of a fork() a new loop runs, files and all, and the parent's tasks do not go on there") {
    const pid_t parent = ::getpid();
    int steps = 0;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            ++steps;
            if (::getpid() != parent) ::_exit(3);
            co_await aio::sleep(0s);
        }
    });
    co_await aio::write_file("/dev/null", "x");  // starts threads of a pool
    const int status = forked([&] {
        const int before = steps;
        auto main = []() -> aio::coro<int> {
            co_await aio::sleep(1ms);
            if (AIO_TEST_TSAN) co_return 7;  // TSan dies when the child of a process with threads starts one
            co_await aio::write_file("/dev/null", "x");
            co_return co_await aio::to_thread([] { return 7; });
        };
        return aio::run(main()) == 7 && steps == before;
    });
    EXPECT_EQ(status, 0);
    co_await other;
    EXPECT_EQ(steps, 3);
}

PLAIN_TEST("rule 150: where the child's coroutine goes on to wait, run() throws there, and no other task is stepped") {
    const pid_t parent = ::getpid();
    int status = -1;
    auto main = [&]() -> aio::coro<> {
        auto neighbour = aio::create_task([&]() -> aio::coro<> {
            for (;;) {
                co_await aio::sleep(0s);
                if (::getpid() != parent) ::_exit(3);
            }
        });
        co_await turns(2);
        const pid_t child = ::fork();
        if (child != 0) ::waitpid(child, &status, 0);
        co_await aio::sleep(1ms);
        if (child == 0) ::_exit(4);  // not reached: the loop of the child is closed
    };
    std::string end = "returned";
    try {
        aio::run(main());
    } catch (const std::logic_error& e) { end = e.what(); }
    if (::getpid() != parent) ::_exit(contains(end, "after fork()") ? 0 : 1);
    EXPECT_EQ(end, "returned");
    EXPECT_EQ(status, 0);
}

PLAIN_TEST("rule 150: a runner that was made before fork() is of no use in the child") {
    aio::runner r;
    r.run(turns(1));
    const int status = forked([&] {
        const bool refused = refuses([&] { r.run(turns(1)); });
        r.close();  // must leave the parent's descriptors alone
        return refused;
    });
    EXPECT_EQ(status, 0);
    r.run(turns(1));
}

// ---- run_main ----

namespace {

/// How a child process ended, and what it printed.
struct process_end {
    int status = -1;
    std::string output, errors;
    bool killed_by(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
    bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
};
process_end end_of_process(const std::function<int()>& main) {
    int out[2], err[2];
    AIO_REQUIRE(::pipe(out) == 0 && ::pipe(err) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        ::dup2(out[1], 1);
        ::dup2(err[1], 2);
        for (const int fd : {out[0], out[1], err[0], err[1]}) ::close(fd);
        const int status = main();
        std::fflush(nullptr);
        ::_exit(status);
    }
    ::close(out[1]);
    ::close(err[1]);
    process_end end;
    const auto read_all = [](int fd, std::string& into) {
        char text[4096];
        for (ssize_t n; (n = ::read(fd, text, sizeof text)) > 0;) into.append(text, static_cast<std::size_t>(n));
        ::close(fd);
    };
    read_all(out[0], end.output);
    read_all(err[0], end.errors);
    ::waitpid(child, &end.status, 0);
    return end;
}

aio::coro<> wait_for_signal(int number) {
    std::ios::sync_with_stdio(false);
    std::cout << "in cout's buffer";
    std::clog.flush();
    std::fputs(" and in a buffer", stdout);
    ::raise(number);
    co_await aio::sleep(1h);
}
aio::coro<> inner_failure() {
    co_await aio::sleep(0s);
    throw std::runtime_error("what went wrong");
}
aio::coro<int> outer_failure() {
    co_await inner_failure();
    co_return 0;
}

}  // namespace

PLAIN_TEST("fault P3: run_main gives 0, or what main gives") {
    const auto nothing = []() -> aio::coro<> { co_await aio::sleep(0s); };
    const auto seven = []() -> aio::coro<int> {
        co_await aio::sleep(0s);
        co_return 7;
    };
    EXPECT_EQ(aio::run_main(nothing()), 0);
    EXPECT_EQ(aio::run_main(seven()), 7);
    EXPECT_TRUE(end_of_process([&] { return aio::run_main(seven()); }).exited_with(7));
}

PLAIN_TEST("fault P3: run_main prints an error that nobody catches, with the way that it took, and gives 1") {
    const process_end end = end_of_process([] { return aio::run_main(outer_failure()); });
    EXPECT_TRUE(end.exited_with(1)) << end.status;
    EXPECT_TRUE(contains(end.errors, "what went wrong")) << end.errors;
    EXPECT_TRUE(contains(end.errors, "inner_failure")) << end.errors;
    EXPECT_TRUE(contains(end.errors, "outer_failure")) << end.errors;
    const auto cancels_itself = []() -> aio::coro<> {
        aio::current_task().cancel("by itself");
        co_await aio::sleep(1h);
    };
    const process_end cancelled = end_of_process([&] { return aio::run_main(cancels_itself()); });
    EXPECT_TRUE(cancelled.exited_with(1));
    EXPECT_TRUE(contains(cancelled.errors, "by itself")) << cancelled.errors;
}

PLAIN_TEST(
    "fault P3: after SIGINT and SIGTERM run_main ends the process by that signal; what was buffered is written") {
    for (const int number : {SIGINT, SIGTERM}) {
        const process_end end = end_of_process([&] { return aio::run_main(wait_for_signal(number)); });
        EXPECT_TRUE(end.killed_by(number)) << end.status;
        EXPECT_EQ(end.output, "in cout's buffer and in a buffer");
        EXPECT_EQ(end.errors, "");
    }
    const process_end end =
        end_of_process([] { return aio::run_main(wait_for_signal(SIGTERM), {.handle_sigterm = false}); });
    EXPECT_TRUE(end.killed_by(SIGTERM));
    EXPECT_EQ(end.output, "");  // the signal's default action ended the process at once
}

PLAIN_TEST("run_main: main that handles the cancellation of a signal ends as it says") {
    const auto tidies = []() -> aio::coro<int> {
        ::raise(SIGTERM);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_return 3;
    };
    const process_end end = end_of_process([&] { return aio::run_main(tidies()); });
    EXPECT_TRUE(end.exited_with(3)) << end.status;
}

// ---- signals that nobody has seen ----

PLAIN_TEST(
    "fault P4: main that ends with a value before it saw a signal's cancellation: keyboard_interrupt all the same") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "a child of fork() cannot start threads under ThreadSanitizer";
    const auto main = []() -> aio::coro<int> {
        co_return co_await aio::to_thread([](std::stop_token stop) {
            ::kill(::getpid(), SIGINT);
            // Main is cancelled, and still gets the value.
            while (!stop.stop_requested()) std::this_thread::yield();
            return 7;
        });
    };
    in_child([&] { return ending_of([&] { aio::run(main()); }) == "keyboard_interrupt 2"; });
    EXPECT_TRUE(end_of_process([&] { return aio::run_main(main()); }).killed_by(SIGINT));
}

PLAIN_TEST(
    "decision (h): a signal in main's last step, which nobody can see any more: keyboard_interrupt all the same") {
    in_child([] {
        const auto main = []() -> aio::coro<int> {
            co_await turns();
            ::raise(SIGINT);
            co_return 7;
        };
        return ending_of([&] { aio::run(main()); }) == "keyboard_interrupt 2";
    });
}

PLAIN_TEST(
    "decision (h): a first signal while what is left is awaited interrupts none of it, and is not lost: run() throws "
    "then") {
    const auto main = [](bool& cleaned) -> aio::coro<int> {
        aio::create_task([&cleaned]() -> aio::coro<> {
            bool cancelled = false;
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) { cancelled = true; }
            ::raise(SIGINT);
            co_await aio::sleep(1ms);
            cleaned = cancelled;
        });
        co_await turns();
        co_return 7;
    };
    in_child([&] {
        bool cleaned = false;
        return ending_of([&] { aio::run(main(cleaned)); }) == "keyboard_interrupt 2" && cleaned;
    });
    bool cleaned = false;
    EXPECT_TRUE(end_of_process([&] { return aio::run_main(main(cleaned)); }).killed_by(SIGINT));
    in_child([&] {
        aio::runner r;
        const int got = r.run(main(cleaned));
        r.close();
        return got == 7 && cleaned;
    });
}

PLAIN_TEST(
    "fault P4: main that fails before it saw a signal's cancellation: keyboard_interrupt, and the error is told") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "a child of fork() cannot start threads under ThreadSanitizer";
    const auto main = [](std::string& told) -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&told](const aio::exception_context& c) { told += c.message + ": " + aio::detail::describe(c.error); });
        co_await aio::to_thread([](std::stop_token stop) {
            ::kill(::getpid(), SIGINT);
            while (!stop.stop_requested()) std::this_thread::yield();
            throw std::runtime_error("from the thread");
        });
    };
    in_child([&] {
        std::string told;
        const std::string ended = ending_of([&] { aio::run(main(told)); });
        if (!contains(told, "from the thread")) std::fprintf(stderr, "told: %s\n", told.c_str());
        return ended == "keyboard_interrupt 2" && contains(told, "from the thread");
    });
}

PLAIN_TEST(
    "rule 147: main that sees a signal's cancellation after an irrevocable completion, and handles it, has its own "
    "outcome") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "a child of fork() cannot start threads under ThreadSanitizer";
    const auto main = []() -> aio::coro<int> {
        const int value = co_await aio::to_thread([](std::stop_token stop) {
            ::kill(::getpid(), SIGINT);
            while (!stop.stop_requested()) std::this_thread::yield();
            return 7;
        });
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { co_return value; }
        co_return 0;
    };
    in_child([&] { return aio::run(main()) == 7; });
}

// ---- a forced end ----

PLAIN_TEST("fault C7: a runner whose loop was ended by force, by a second signal or a deadlock, does not run again") {
    in_child([] {
        aio::runner r;
        const auto main = []() -> aio::coro<> {
            aio::create_task(stubborn(), {.name = "stubborn"});
            co_await turns();
            ::raise(SIGINT);
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error&) {}
            ::raise(SIGINT);
            co_await aio::sleep(1h);
        };
        const auto again = []() -> aio::coro<> { co_await turns(10); };
        if (ending_of([&] { r.run(main()); }) != "keyboard_interrupt 2") return false;
        for (int i = 0; i < 2; ++i) {
            try {
                r.run(again());
                return false;
            } catch (const std::logic_error& e) {
                if (!contains(e.what(), "ended by force") || !contains(e.what(), "new runner")) return false;
            }
        }
        r.close();
        aio::runner other;
        other.run(again());
        return true;
    });
    aio::runner r;
    const auto stuck = []() -> aio::coro<> { co_await aio::future<>(); };
    const auto again = []() -> aio::coro<> { co_return; };
    EXPECT_THROW(r.run(stuck()), aio::deadlock_error);
    EXPECT_THROW(r.run(again()), std::logic_error);
}

// ---- what waits for descriptors ----

#if defined(__x86_64__)
// Forbids io_uring to this process, as many containers do.
void forbid_io_uring() {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(program), program};
    aio_test::require(
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0,
        "a filter of system calls");
}

PLAIN_TEST("fault P9: io_uring, where it is forbidden, is told once on stderr, and the program goes on with epoll") {
    const auto main = []() -> aio::coro<int> {
        co_await aio::sleep(1ms);
        co_return aio::get_running_loop().backend() == aio::backend::epoll ? 1 : 100;
    };
    const auto runs = [&](aio::run_options options) {
        forbid_io_uring();
        return aio::run(main(), options) + aio::run(main(), options);
    };
    const std::string sentence = "aiocxx: io_uring cannot be used here, epoll takes its place\n";
    const process_end by_variable = end_of_process([&] {
        ::setenv("AIO_BACKEND", "io_uring", 1);
        return runs({});
    });
    EXPECT_TRUE(by_variable.exited_with(2));
    EXPECT_EQ(by_variable.errors, sentence);
    const process_end by_option = end_of_process([&] { return runs({.io = aio::backend::io_uring}); });
    EXPECT_TRUE(by_option.exited_with(2));
    EXPECT_EQ(by_option.errors, sentence);
    const process_end option_first = end_of_process([&] {
        ::setenv("AIO_BACKEND", "io_uring", 1);
        return runs({.io = aio::backend::epoll});
    });
    EXPECT_TRUE(option_first.exited_with(2));
    EXPECT_EQ(option_first.errors, "");
    for (const char* known : {"epoll", "automatic", ""}) {
        const process_end end = end_of_process([&] {
            ::setenv("AIO_BACKEND", known, 1);
            return runs({});
        });
        EXPECT_TRUE(end.exited_with(2)) << known;
        EXPECT_EQ(end.errors, "") << known;
    }
    const process_end connected = end_of_process([&] {
        forbid_io_uring();
        ::setenv("AIO_BACKEND", "automatic", 1);
        return aio::run([]() -> aio::coro<int> {
            aio::server v = co_await aio::start_server(
                [](aio::stream s) -> aio::coro<> { co_await s.write("hello"); }, "127.0.0.1", 0);
            aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
            const bool heard = co_await s.read() == "hello";
            co_return heard&& aio::get_running_loop().backend() == aio::backend::epoll ? 2 : 100;
        }());
    });
    EXPECT_TRUE(connected.exited_with(2));
    EXPECT_EQ(connected.errors, "");
    const process_end unknown = end_of_process([&] {
        ::setenv("AIO_BACKEND", "kqueue", 1);
        return contains(ending_of([&] { aio::run(main()); }), "AIO_BACKEND is 'kqueue'") ? 0 : 1;
    });
    EXPECT_TRUE(unknown.exited_with(0));
}
#endif

aio::backend backend_of_a_run(aio::backend wanted) {
    return aio::run([]() -> aio::coro<aio::backend> { co_return aio::get_running_loop().backend(); }, {.io = wanted});
}

PLAIN_TEST("the loop says what waits for its descriptors, which is what was asked for") {
    EXPECT_TRUE(backend_of_a_run(aio::backend::epoll) == aio::backend::epoll);
    if (::syscall(SYS_io_uring_setup, 1, nullptr) != -1 || errno != EFAULT)
        GTEST_SKIP() << "io_uring is forbidden here";
    EXPECT_TRUE(backend_of_a_run(aio::backend::io_uring) == aio::backend::io_uring);
}

PLAIN_TEST("fault P15: run takes a lambda, which lives as long as it runs") {
    const std::string captured(100, 'c');
    EXPECT_EQ(aio::run([captured]() -> aio::coro<std::size_t> {
        co_await aio::sleep(0s);
        co_return captured.size();
    }),
        100u);
    EXPECT_EQ(aio::run([] { return 3; }, {.debug = true}), 3);
    aio::runner runner;
    EXPECT_EQ(runner.run([captured]() -> aio::coro<char> { co_return captured[0]; }), 'c');
    EXPECT_THROW(aio::run([]() -> aio::coro<> {
        throw std::runtime_error("out");
        co_return;
    }),
        std::runtime_error);
}
