#include "aio_test.hpp"

#include <sstream>

namespace {

using aio_test::turns;

std::string here(int line) { return "call_graph_test.cpp:" + std::to_string(line) + " in "; }

aio::coro<> innermost() {
    co_await aio::sleep(1h);
}
constexpr int innermost_line = __LINE__ - 2;
aio::coro<> middle() {
    co_await aio::sleep(0s);
    co_await innermost();
}
constexpr int middle_line = __LINE__ - 2;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

AIO_TEST("each suspended coroutine stands with the file and line of its co_await, and what it waits for") {
    auto t = aio::create_task(middle(), {.name = "diver"});
    co_await turns(3);
    const aio::call_graph graph = aio::capture_call_graph();
    AIO_REQUIRE(graph.tasks().size() == 2);
    EXPECT_EQ(graph.tasks()[0].state, "running");
    const aio::call_graph_task& diver = graph.tasks()[1];
    EXPECT_EQ(diver.name, "diver");
    EXPECT_EQ(diver.state, "waiting");
    EXPECT_EQ(diver.waits_for, "sleep(3600s)");
    EXPECT_TRUE(contains(diver.created, "call_graph_test.cpp:" + std::to_string(__LINE__ - 9))) << diver.created;
    AIO_REQUIRE(diver.frames.size() == 2);
    EXPECT_EQ(static_cast<int>(diver.frames[0].line), middle_line);
    EXPECT_EQ(static_cast<int>(diver.frames[1].line), innermost_line);
    EXPECT_TRUE(contains(diver.frames[0].function, "middle"));
    EXPECT_TRUE(contains(diver.frames[1].file, "call_graph_test.cpp"));
    const std::string text = graph.to_string();
    EXPECT_TRUE(contains(text, "diver: waiting for sleep(3600s)")) << text;
    EXPECT_TRUE(contains(text, here(middle_line))) << text;
    EXPECT_TRUE(contains(text, here(innermost_line))) << text;
    EXPECT_LT(text.find(here(middle_line)), text.find(here(innermost_line)));
    std::ostringstream out;
    aio::print_call_graph(out);
    EXPECT_TRUE(contains(out.str(), "diver")) << out.str();
}

AIO_TEST("what joins a task or a future says which") {
    aio::future<int> f;
    auto a = aio::create_task([](aio::future<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, f);
    a.set_name("first");
    auto b = aio::create_task([](aio::task<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, a);
    co_await turns(2);
    const std::string text = aio::capture_call_graph().to_string();
    EXPECT_TRUE(contains(text, "waiting for a future")) << text;
    EXPECT_TRUE(contains(text, "waiting for task first")) << text;
    f.set_result(1);
    co_await b;
}

AIO_TEST("a task that has not started, one that is ready, one that is cancelled but has not run") {
    auto fresh = aio::create_task(innermost(), {.name = "fresh"});
    auto woken = aio::create_task(aio::sleep(0s), {.name = "woken"});
    std::string text = aio::capture_call_graph().to_string();
    EXPECT_TRUE(contains(text, "fresh: ready")) << text;
    co_await turns();
    fresh.cancel();
    text = aio::capture_call_graph().to_string();
    EXPECT_TRUE(contains(text, "fresh: ready")) << text;
    EXPECT_TRUE(contains(text, "woken: ready")) << text;
    co_await turns(2);
    EXPECT_EQ(aio::capture_call_graph().tasks().size(), 1u);
}

AIO_TEST("rule 24: the line that a cancellation interrupts stands in the call graph until the task has run") {
    const int line = __LINE__ + 1;
    auto waits = []() -> aio::coro<> { co_await aio::sleep(1h); };
    auto t = aio::create_task(waits(), {.name = "interrupted"});
    auto line_of = [] {
        const aio::call_graph graph = aio::capture_call_graph();
        for (const aio::call_graph_task& found : graph.tasks()) {
            if (found.name == "interrupted" && !found.frames.empty()) return static_cast<int>(found.frames.back().line);
        }
        return 0;
    };
    co_await turns();
    EXPECT_EQ(line_of(), line);
    t.cancel();
    EXPECT_EQ(line_of(), line);
    co_await turns();
    EXPECT_TRUE(t.cancelled());
}

aio::coro<std::string> look_from_within(int depth) {
    if (depth > 0) {
        std::string text = co_await look_from_within(depth - 1);
        co_return text;
    }
    co_return aio::capture_call_graph().to_string();
}

AIO_TEST("taken by the running task at any depth, before and after it has suspended, it is safe") {
    EXPECT_TRUE(contains(co_await look_from_within(3), "running"));
    co_await aio::sleep(0s);
    EXPECT_TRUE(contains(co_await look_from_within(300), "running"));  // beyond the budget of a step
    EXPECT_TRUE(contains(co_await look_from_within(3), "running"));
}

AIO_TEST("deep stacks are cut in the text, not in the data") {
    auto deep = [](auto& self, int depth) -> aio::coro<> {
        if (depth == 0) {
            co_await aio::sleep(1h);
        } else {
            co_await self(self, depth - 1);
        }
    };
    auto t = aio::create_task(deep(deep, 999), {.name = "deep"});
    co_await turns(10);
    const aio::call_graph graph = aio::capture_call_graph();
    EXPECT_EQ(graph.tasks()[1].frames.size(), 1000u);
    const std::string text = graph.to_string();
    EXPECT_TRUE(contains(text, "936 more frames")) << text;
    EXPECT_LT(text.size(), 100'000u);
}

AIO_TEST("many tasks are cut in the text, not in the data") {
    for (int i = 0; i < 1500; ++i) aio::create_task(innermost());
    co_await turns();
    const aio::call_graph graph = aio::capture_call_graph();
    EXPECT_EQ(graph.tasks().size(), 1501u);
    EXPECT_TRUE(contains(graph.to_string(), "501 more tasks"));
}

PLAIN_TEST("without a loop it is a logic_error") {
    EXPECT_THROW(aio::capture_call_graph(), std::logic_error);
    std::ostringstream out;
    EXPECT_THROW(aio::print_call_graph(out), std::logic_error);
}

}  // namespace
