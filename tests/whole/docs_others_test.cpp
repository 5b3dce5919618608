// The code of docs/from_others/: `./dev rules` checks that each C++ block there stands here word for word. The blocks
// of other libraries are marked c++ or rust instead of cpp, and are not compiled.

#include "aio_test.hpp"

#include <string>

namespace {

aio::coro<int> fetch(int id) {
    co_await aio::sleep(10ms);
    co_return id* id;
}

aio::coro<int> both() {
    auto [a, b] = co_await aio::gather(fetch(3), fetch(4));
    co_return a + b;
}

aio::coro<int> both_in_time(aio::delay limit) {
    try {
        co_return co_await aio::wait_for(both(), limit);
    } catch (const aio::timeout_error&) { co_return -1; }
}

aio::coro<std::string> loser_has_ended() {
    std::string log;
    auto slow = [&]() -> aio::coro<> {
        auto ended = aio::finally([&] { log += "cleaned up, "; });
        co_await aio::sleep(1h);
    };
    co_await aio::race(fetch(1), slow());
    log += "then went on";
    co_return log;
}

}  // namespace

AIO_TEST("the small program of the comparisons gives the sum, or is too slow") {
    EXPECT_EQ(co_await both_in_time(1s), 25);
    EXPECT_EQ(co_await both_in_time(1ms), -1);
    EXPECT_EQ(co_await loser_has_ended(), "cleaned up, then went on");
}
