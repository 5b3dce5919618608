// Signals that come to the process, and who hears of them.
#include "aio_test.hpp"
#include "in_a_fork.hpp"

#include <aio/run.hpp>

#include <csignal>
#include <thread>

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using aio_test::in_a_fork;

using action = void (*)(int);
action action_of(int number) {
    struct sigaction now{};
    ::sigaction(number, nullptr, &now);
    return now.sa_handler;
}
action default_action() { return SIG_DFL; }

void own_handler(int) {}

aio::coro<int> next_of(aio::async_generator<int>& from) {
    const auto number = co_await from.next();
    co_return number ? *number : 0;
}

}  // namespace

AIO_REAL_TEST("signals() gives the signals that come, also those that come before the first next()") {
    aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR1, SIGUSR2));
    ::raise(SIGUSR1);
    EXPECT_EQ(co_await next_of(heard), SIGUSR1);
    ::kill(::getpid(), SIGUSR2);
    EXPECT_EQ(co_await next_of(heard), SIGUSR2);
    aio::task<int> waiting = aio::create_task(next_of(heard));
    co_await aio_test::turns(3);
    EXPECT_FALSE(waiting.done());
    ::raise(SIGUSR1);
    EXPECT_EQ(co_await waiting, SIGUSR1);
}

AIO_REAL_TEST("no signal that was handled is lost between two next(), and each kind has its turn") {
    aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR1, SIGUSR2));
    for (int i = 0; i < 5; ++i) ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    std::vector<int> order;
    for (int i = 0; i < 6; ++i) order.push_back(co_await next_of(heard));
    EXPECT_EQ(std::count(order.begin(), order.end(), SIGUSR1), 5);
    EXPECT_EQ(std::count(order.begin(), order.begin() + 2, SIGUSR2), 1) << "a flood of one kind does not hide another";
}

AIO_REAL_TEST("real-time signals are counted one by one") {
    aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGRTMIN + 3));
    sigset_t one, before;
    ::sigemptyset(&one);
    ::sigaddset(&one, SIGRTMIN + 3);
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    constexpr int sent = AIO_TEST_TSAN ? 1 : 4;  // TSan calls a handler later, and only once for all of a kind
    for (int i = 0; i < sent; ++i) ::kill(::getpid(), SIGRTMIN + 3);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    for (int i = 0; i < sent; ++i) EXPECT_EQ(co_await next_of(heard), SIGRTMIN + 3);
}

AIO_REAL_TEST("each of several listeners gets each signal") {
    aio::async_generator<int> one = aio::signals(aio::signal_set(SIGUSR1));
    aio::async_generator<int> other = aio::signals(aio::signal_set(SIGUSR1, SIGUSR2));
    aio::task<int> first = aio::create_task(next_of(one)), second = aio::create_task(next_of(other));
    co_await aio_test::turns(2);
    ::raise(SIGUSR1);
    EXPECT_EQ(co_await first, SIGUSR1);
    EXPECT_EQ(co_await second, SIGUSR1);
    aio::async_generator<int> late = aio::signals(aio::signal_set(SIGUSR1));
    ::raise(SIGUSR1);
    EXPECT_EQ(co_await next_of(late), SIGUSR1);
    EXPECT_EQ(co_await next_of(one), SIGUSR1);
    EXPECT_EQ(co_await next_of(other), SIGUSR1);
}

AIO_REAL_TEST("the action from before is back when the last listener has ended") {
    const action before = std::signal(SIGUSR1, &own_handler);
    {
        aio::async_generator<int> one = aio::signals(aio::signal_set(SIGUSR1));
        EXPECT_NE(action_of(SIGUSR1), &own_handler);
        { aio::async_generator<int> never_started = aio::signals(aio::signal_set(SIGUSR1)); }
        EXPECT_NE(action_of(SIGUSR1), &own_handler);
        ::raise(SIGUSR1);
        EXPECT_EQ(co_await next_of(one), SIGUSR1);
        co_await one.aclose();
        EXPECT_EQ(action_of(SIGUSR1), &own_handler);
    }
    EXPECT_EQ(action_of(SIGUSR1), &own_handler);
    std::signal(SIGUSR1, before);
}

AIO_REAL_TEST("an action that the program sets meanwhile stays") {
    const action before = std::signal(SIGUSR1, SIG_DFL);
    {
        aio::async_generator<int> one = aio::signals(aio::signal_set(SIGUSR1));
        std::signal(SIGUSR1, &own_handler);
    }
    EXPECT_EQ(action_of(SIGUSR1), &own_handler);
    {
        std::signal(SIGUSR1, SIG_DFL);
        aio::async_generator<int> one = aio::signals(aio::signal_set(SIGUSR1));
        std::signal(SIGUSR1, &own_handler);
        aio::async_generator<int> two = aio::signals(aio::signal_set(SIGUSR1));
        ::raise(SIGUSR1);
        EXPECT_EQ(co_await next_of(one), SIGUSR1);
        EXPECT_EQ(co_await next_of(two), SIGUSR1);
    }
    EXPECT_EQ(action_of(SIGUSR1), &own_handler);
    std::signal(SIGUSR1, before);
}

AIO_REAL_TEST("a cancel ends the generator and its listening") {
    std::signal(SIGUSR1, SIG_DFL);
    aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR1));
    aio::task<int> waiting = aio::create_task(next_of(heard));
    co_await aio_test::turns(2);
    EXPECT_NE(action_of(SIGUSR1), default_action());
    waiting.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(waiting.cancelled());
    EXPECT_EQ(action_of(SIGUSR1), default_action());
    EXPECT_EQ(co_await next_of(heard), 0);
}

AIO_TEST("signals that cannot be caught, or must not be, are refused") {
    for (const int number : {0, -1, 65, 1000, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 32, 33})
        EXPECT_THROW(aio::signal_set(SIGINT, number), std::invalid_argument) << number;
    EXPECT_TRUE(aio::signal_set(SIGINT, SIGTERM).contains(SIGTERM));
    EXPECT_FALSE(aio::signal_set(SIGINT).contains(SIGTERM));
    co_return;
}

PLAIN_TEST("signals() needs a loop, and its generator is for that loop alone") {
    EXPECT_THROW(static_cast<void>(aio::signals(aio::signal_set(SIGUSR1))), std::logic_error);
    std::signal(SIGUSR1, SIG_DFL);
    aio::runner one, two;
    aio::async_generator<int> heard;
    const auto listen = [&]() -> aio::coro<> {
        heard = aio::signals(aio::signal_set(SIGUSR1));
        co_return;
    };
    const auto next = [&]() -> aio::coro<> { co_await heard.next(); };
    one.run(listen());
    EXPECT_THROW(two.run(next()), std::logic_error);
    one.run(listen());
    EXPECT_NE(action_of(SIGUSR1), default_action());
    one.close();
    EXPECT_EQ(action_of(SIGUSR1), default_action()) << "a loop that has ended hears of nothing";
}

AIO_TEST("who waits for a signal is in no deadlock") {
    aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR1));
    aio::task<int> waiting = aio::create_task(next_of(heard));
    co_await aio_test::turns(2);
    EXPECT_NE(aio::capture_call_graph().to_string().find("a signal"), std::string::npos);
    std::thread([] { ::kill(::getpid(), SIGUSR1); }).join();
    EXPECT_EQ(co_await waiting, SIGUSR1);
}

// ---- beside run() ----

PLAIN_TEST("while a generator listens for SIGINT run() does not cancel main, and afterwards it does again") {
    EXPECT_EQ(action_of(SIGINT), default_action());
    bool heard_all = false;
    const auto main = [&]() -> aio::coro<> {
        {
            aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGINT));
            for (int i = 0; i < 3; ++i) {
                ::raise(SIGINT);
                EXPECT_EQ(co_await next_of(heard), SIGINT);
                co_await aio_test::turns(3);
            }
            EXPECT_EQ(aio::current_task().cancelling(), 0);
        }
        heard_all = true;
        ::raise(SIGINT);
        co_await aio::sleep_forever();
    };
    EXPECT_THROW(aio::run(main()), aio::keyboard_interrupt);
    EXPECT_TRUE(heard_all);
    EXPECT_EQ(action_of(SIGINT), default_action());
}

PLAIN_TEST("SIGTERM, too, which run() would take") {
    const auto main = []() -> aio::coro<int> {
        aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGINT, SIGTERM));
        ::raise(SIGTERM);
        co_return co_await next_of(heard);
    };
    EXPECT_EQ(aio::run(main(), {.handle_sigterm = true}), SIGTERM);
    EXPECT_EQ(action_of(SIGTERM), default_action());
}

PLAIN_TEST("a listener on another thread outlives the run() of the main thread, and the other way round") {
    std::atomic<int> stage = 0;
    std::atomic<int> got = 0;
    std::thread other([&] {
        const auto listen = [&]() -> aio::coro<> {
            aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGINT));
            stage = 1;
            for (int i = 0; i < 2; ++i) { got += co_await next_of(heard) == SIGINT; }
        };
        aio::run(listen());
    });
    while (stage != 1) std::this_thread::yield();
    const auto main = [&]() -> aio::coro<> {
        ::raise(SIGINT);
        while (got != 1) co_await aio::sleep(1ms);
    };
    aio::run(main());
    EXPECT_NE(action_of(SIGINT), default_action());
    ::raise(SIGINT);  // no run() any more: the listener has it, and the process goes on
    other.join();
    EXPECT_EQ(got, 2);
    EXPECT_EQ(action_of(SIGINT), default_action());
}

PLAIN_TEST("loops of several threads hear each signal") {
    constexpr int loops = 4, signals_sent = 20;
    std::atomic<int> ready = 0, got = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < loops; ++i) {
        threads.emplace_back([&] {
            const auto listen = [&]() -> aio::coro<> {
                aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR2));
                ++ready;
                for (int n = 0; n < signals_sent; ++n) {
                    EXPECT_EQ(co_await next_of(heard), SIGUSR2);
                    ++got;
                }
            };
            aio::run(listen());
        });
    }
    while (ready != loops) std::this_thread::yield();
    for (int n = 1; n <= signals_sent; ++n) {
        ::kill(::getpid(), SIGUSR2);
        while (got < n * loops) std::this_thread::yield();
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(got, loops * signals_sent);
}

PLAIN_TEST(
    "rule 150: a forked child does not hear the signals of its parent's generators, and has the actions from before") {
    const auto main = []() -> aio::coro<> {
        aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGTERM, SIGUSR1));
        EXPECT_EQ(in_a_fork([] {
            ::raise(SIGTERM);
            return 0;
        }),
            -SIGTERM);
        aio::task<int> waiting = aio::create_task(next_of(heard));
        co_await aio::sleep(1ms);
        EXPECT_FALSE(waiting.done()) << "the signal was the child's (cpython#94454, pyroute2#870)";
        ::raise(SIGUSR1);
        EXPECT_EQ(co_await waiting, SIGUSR1);
        EXPECT_EQ(in_a_fork([&] {
            heard = {};  // of the parent: does nothing
            const auto own = []() -> aio::coro<int> {
                aio::async_generator<int> mine = aio::signals(aio::signal_set(SIGUSR1));
                ::raise(SIGUSR1);
                co_return co_await next_of(mine);
            };
            return aio::run(own()) == SIGUSR1 ? 0 : 1;
        }),
            0);
        ::raise(SIGUSR1);
        EXPECT_EQ(co_await next_of(heard), SIGUSR1);
    };
    aio::run(main());
}

namespace {
/// UBSan needs descriptors to look at a class for the first time, and so has to see such an error before.
int errno_of(const std::system_error& e) { return e.code().value(); }
void have_an_error() { static_cast<void>(errno_of(std::system_error(EMFILE, std::generic_category(), "an error"))); }
}  // namespace

PLAIN_TEST("signals() in a process without free descriptors says so, and leaves nothing behind") {
    EXPECT_EQ(in_a_fork([] {
        const auto main = []() -> aio::coro<int> {
            have_an_error();
            const rlimit room{1024, 1024};
            const rlimit limit{static_cast<rlim_t>(aio_test::lowest_free_descriptor()), 1024};
            ::setrlimit(RLIMIT_NOFILE, &limit);
            try {
                static_cast<void>(aio::signals(aio::signal_set(SIGUSR1)));
            } catch (const std::system_error& e) {
                ::setrlimit(RLIMIT_NOFILE, &room);
                co_return errno_of(e) == EMFILE&& action_of(SIGUSR1) == SIG_DFL ? 0 : 1;
            }
            co_return 2;
        };
        return aio::run(main());
    }),
        0);
}

PLAIN_TEST("signals() withstands a cancel at each step, and each allocation that fails") {
    std::signal(SIGUSR1, SIG_DFL);
    const auto scenario = []() -> aio::coro<> {
        const aio_test::counted here;
        aio::async_generator<int> heard = aio::signals(aio::signal_set(SIGUSR1));
        ::raise(SIGUSR1);
        const int first = co_await next_of(heard);
        aio::task<int> waiting = aio::create_task(next_of(heard));
        co_await aio_test::turns();
        ::raise(SIGUSR1);
        const int second = co_await waiting;
        if (first != SIGUSR1 || second != SIGUSR1) throw std::runtime_error("a signal is missing");
    };
    const auto check = [] {
        EXPECT_EQ(aio_test::counted::alive, 0);
        EXPECT_EQ(action_of(SIGUSR1), default_action());
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, check) + aio::testing::end_at_every_step(scenario, check) +
            aio::testing::fail_every_allocation(scenario, check),
        10u);
}
