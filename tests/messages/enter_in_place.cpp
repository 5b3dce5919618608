// clean
#include <aio/with.hpp>

struct shop {
    explicit shop(int) {}
    shop(shop&&) = delete;
    aio::coro<int&> enter();
    aio::coro<> exit(std::exception_ptr);
};
aio::coro<> work() {
    int& given = co_await aio::enter<shop>(1);
    given = 2;
}
