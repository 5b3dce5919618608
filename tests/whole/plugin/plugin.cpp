// A plugin of plugin_test: it is compiled with hidden visibility and loaded with dlopen. It is linked to aiocxx as the
// program is: if aiocxx is a shared library, both use one copy; if aiocxx is static, the plugin has a copy of its own.

#include "plugin.hpp"

#include <aio/aio.hpp>

#include <stdexcept>
#include <thread>

using namespace std::chrono_literals;

namespace {

struct plugin_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

aio::coro<int> seven() {
    co_await aio::sleep(0s);
    co_return 7;
}

aio::coro<int> answer() {
    const int nested = co_await seven();
    aio::event ready;
    auto setter = aio::create_task([&]() -> aio::coro<> {
        ready.set();
        co_return;
    });
    co_await ready.wait();
    co_await setter;
    co_return nested * 6;
}

aio::coro<int> fails() {
    throw plugin_error("from the plugin");
    co_return 0;
}

aio::coro<int> times_out() { co_return co_await aio::wait_for(seven(), 0s); }

aio::coro<> note(bool& ran) {
    ran = true;
    co_return;
}
aio::coro<> cancel_before_the_start(bool& ran) {
    auto t = aio::create_task(note(ran));
    t.cancel();
    co_await aio::sleep(0s);
}

}  // namespace

extern "C" {
[[gnu::visibility("default")]] void plugin_answer(std::optional<aio::coro<int>>& out) { out.emplace(answer()); }
[[gnu::visibility("default")]] void plugin_fails(std::optional<aio::coro<int>>& out) { out.emplace(fails()); }
[[gnu::visibility("default")]] void plugin_times_out(std::optional<aio::coro<int>>& out) { out.emplace(times_out()); }

[[gnu::visibility("default")]] int plugin_runs_a_loop() {
    int result = 0;
    std::thread([&] { result = aio::run(answer()); }).join();
    return result;
}

[[gnu::visibility("default")]] bool plugin_cancels_before_the_start() {
    bool ran = false;
    std::thread([&] { aio::run(cancel_before_the_start(ran)); }).join();
    return !ran;
}
}
