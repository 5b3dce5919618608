// error: the await_suspend of this awaiter takes the coroutines of another library alone
#include <aio/coro.hpp>

struct their_promise {};
struct theirs {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<their_promise>) const noexcept {}
    int await_resume() const noexcept { return 1; }
};
aio::coro<int> use() { co_return co_await theirs(); }
