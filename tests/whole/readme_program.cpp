#include <aio/aio.hpp>

#include <cstdio>
#include <vector>

using namespace std::chrono_literals;

aio::coro<int> fetch(int id) {
    co_await aio::sleep(10ms);  // something that takes its time
    co_return id* id;
}

aio::coro<> async_main() {
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
    } catch (const aio::timeout_error&) { std::puts("too slow"); }
    std::printf("the sum is %d\n", sum);
}

int main() { return aio::run_main(async_main()); }
