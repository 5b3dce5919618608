// The code of docs/internals/compilers.md. `./dev rules` checks that each C++ block of the pages stands, word for word,
// in a file of tests/ or examples/.

#include "aio_test.hpp"

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace {

// [compilers: a lambda that captures by value]
aio::coro<std::string> greet(std::string name) {
    auto hello = [name] { return "hello, " + name; };  // a named local, not inside the co_await
    co_return co_await aio::to_thread(hello);
}
// [end]

// [compilers: conditions]
aio::coro<int> first_even(aio::queue<int>& queue) {
    while (true) {
        const int item = co_await queue.get();  // its own statement, not in && or ||
        if (item % 2 == 0) co_return item;
    }
}
// [end]

}  // namespace

AIO_REAL_TEST("the code of docs/internals/compilers.md works") {
    EXPECT_EQ(co_await greet("you"), "hello, you");
    aio::queue<int> queue;
    queue.put_nowait(1);
    queue.put_nowait(2);
    EXPECT_EQ(co_await first_even(queue), 2);
}
