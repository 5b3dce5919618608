// error: this can be awaited in coroutines of aio alone
#include <aio/sleep.hpp>

struct theirs {
    struct promise_type {
        theirs get_return_object() { return {}; }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_always final_suspend() const noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};
theirs use() { co_await aio::sleep(std::chrono::seconds(1)); }
