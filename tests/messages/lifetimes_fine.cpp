// fault P6
// clean
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/aio.hpp>

aio::coro<> greet(const std::string& name);

using namespace std::chrono_literals;
struct manager {
    aio::coro<> enter();
    aio::coro<bool> exit(std::exception_ptr);
};
AIO_CORO_WRAPPER aio::coro<> wrapped(const std::string& name) { return greet(name); }
aio::coro<int> number(std::string);
aio::async_generator<int> numbers(std::string);

aio::coro<> work(std::string name, aio::stream& s, aio::file& f) {
    auto later = greet(name);
    co_await std::move(later);
    co_await greet("you");
    auto both = aio::gather(number("a"), number("b"));
    co_await std::move(both);
    auto results = aio::gather(aio::return_exceptions, number("a"), number("b"));
    co_await std::move(results);
    auto all = numbers("c");
    while (auto n = co_await all.next()) { ++*n; }
    aio::task<int> t = aio::create_task([name]() -> aio::coro<int> { co_return 1; });
    auto limited = aio::wait_for(number("d"), 1s);
    auto first = aio::race(t, std::move(limited));
    co_await std::move(first);
    co_await aio::with(manager(), [&]() -> aio::coro<> { co_await greet(name); });
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) { tg.create_task(greet(name)); });
    co_await aio::enter(manager());
    co_await aio::defer([](std::string text) -> aio::coro<> { co_await greet(text); }, name);
    co_await aio::for_each(
        numbers("e") | aio::views::take(3) | aio::views::transform([](int i) { return i; }), [](int) {});
    co_await (
        numbers("f") | aio::views::concurrent(2, [](int) -> aio::coro<int> { co_return 1; }) | aio::to<std::vector>());
    auto written = f.write("g" + name);
    co_await std::move(written);
    co_await s.write(name);
    co_await aio::to_async([] { return 1; })();
    auto server = co_await aio::start_server([](aio::stream) {}, "", 0);
}
int main() {
    return aio::run_main([]() -> aio::coro<> { co_return; });
}
