// The code of README.md and docs/: `./dev rules` checks that each C++ block there stands here, or in examples/, word for word.

#include "aio_test.hpp"

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace {

// [README: first program]
aio::coro<int> fetch(int id) {
    co_await aio::sleep(10ms);  // something that takes its time
    co_return id * id;
}

aio::coro<int> async_main() {
    int sum = 0;
    auto [a, b] = co_await aio::gather(fetch(1), fetch(2));  // both at once
    sum += a + b;

    std::vector<aio::task<int>> tasks;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (int id = 3; id <= 5; ++id) tasks.push_back(tg.create_task(fetch(id)));
    });  // all are done here
    for (auto& t : tasks) sum += t.result();

    try {
        sum += co_await aio::wait_for(fetch(6), 1ms);
    } catch (const aio::timeout_error&) {
        std::puts("too slow");
    }
    co_return sum;
}
// [end]

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

PLAIN_TEST("the program of the README works") { EXPECT_EQ(aio::run(async_main()), 1 + 4 + 9 + 16 + 25); }

AIO_REAL_TEST("the code of docs/compilers.md works") {
    EXPECT_EQ(co_await greet("you"), "hello, you");
    aio::queue<int> queue;
    queue.put_nowait(1);
    queue.put_nowait(2);
    EXPECT_EQ(co_await first_even(queue), 2);
}
