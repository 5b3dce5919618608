// Tests of a loop that runs in a plugin (dlopen), and of coroutines that cross the border between a program and its
// plugin.

#include "plugin/plugin.hpp"
#include "aio_test.hpp"

#include <string>

#include <dlfcn.h>

namespace {

class plugin {
public:
    plugin() : handle_(::dlopen(AIO_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {
        if (!handle_) throw std::runtime_error(::dlerror());
    }
    ~plugin() { ::dlclose(handle_); }
    plugin(const plugin&) = delete;
    plugin& operator=(const plugin&) = delete;

    template<class F>
    F* find(const char* name) const {
        void* symbol = ::dlsym(handle_, name);
        if (!symbol) throw std::runtime_error(::dlerror());
        return reinterpret_cast<F*>(symbol);
    }
    aio::coro<int> make(const char* name) const {
        std::optional<aio::coro<int>> made;
        find<plugin_makes_coro>(name)(made);
        return std::move(*made);
    }

private:
    void* handle_;
};

}  // namespace

PLAIN_TEST("fault C4: a plugin runs a loop of its own, and is unloaded") {
    for (int i = 0; i < 3; ++i) {
        const plugin loaded;
        EXPECT_EQ(loaded.find<plugin_gives_int>("plugin_runs_a_loop")(), 42);
    }
}

PLAIN_TEST("fault C4, rule 8: with hidden visibility, too, a task that is cancelled before its first step never runs") {
    const plugin loaded;
    EXPECT_TRUE(loaded.find<plugin_gives_bool>("plugin_cancels_before_the_start")());
}

#if AIO_TEST_SHARED

AIO_TEST("fault C4: with the shared library a program awaits what its plugin gives") {
    const plugin loaded;
    EXPECT_EQ(co_await loaded.make("plugin_answer"), 42);
    EXPECT_EQ(co_await aio::create_task(loaded.make("plugin_answer")), 42);
}

AIO_TEST("fault C4: with the shared library a plugin's timeout is the program's timeout_error") {
    const plugin loaded;
    bool timed_out = false;
    try {
        co_await loaded.make("plugin_times_out");
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
}

#else

AIO_TEST("fault C4: a coroutine of a plugin that has a copy of aiocxx of its own is refused in words") {
    const plugin loaded;
    std::string what;
    try {
        co_await loaded.make("plugin_answer");
    } catch (const std::logic_error& e) { what = e.what(); }
    EXPECT_NE(what.find("must share one copy of aiocxx"), std::string::npos) << what;
}

#endif

AIO_TEST("fault C4: a plugin's error reaches the program that awaits its coroutine") {
    const plugin loaded;
    std::string what;
    try {
        co_await loaded.make("plugin_fails");
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "from the plugin");
}
