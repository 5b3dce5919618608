#include "aio_test.hpp"
#include "task/frames.hpp"

#include <algorithm>
#include <sstream>
#include <string_view>

#include <time.h>

namespace {

using aio_test::turns;

std::string here(int line) { return "call_graph_test.cpp:" + std::to_string(line) + " in "; }

aio::coro<> innermost() { co_await aio::sleep(1h); }
constexpr int innermost_line = __LINE__ - 1;
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
    EXPECT_FALSE(contains(text, "created at")) << text;  // the frames show where the task is
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
    EXPECT_TRUE(contains(co_await look_from_within(300), "running"));  // deeper than the budget of a step
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

PLAIN_TEST("fault P13: what g++ calls the body of a coroutine becomes the name that a person writes") {
    using aio::detail::readable_function;
    const std::pair<const char*, const char*> names[] = {
        {"void {anonymous}::tail(tail(int, const char*, Frame*)::_ZN12_GLOBAL__N_14tailEiPKcPNS_5FrameE.Frame*)",
            "{anonymous}::tail(int, const char*, Frame*)"},
        {"void {anonymous}::none(none()::_ZN12_GLOBAL__N_14noneEv.Frame*)", "{anonymous}::none()"},
        {"void tail(tail(int)::_Z4taili.Frame*)", "tail(int)"},
        {"void ptr(ptr(int (*)(int), void ({anonymous}::cls::*)(int))::_Z3ptrPFiiEMN12_GLOBAL__N_13clsEFviE.Frame*)",
            "ptr(int (*)(int), void ({anonymous}::cls::*)(int))"},
        {"void {anonymous}::cls::mem({anonymous}::cls::mem(int) const::_ZNK12_GLOBAL__N_13cls3memEi.Frame*)",
            "{anonymous}::cls::mem(int) const"},
        {"void {anonymous}::cls::operator()({anonymous}::cls::operator()(int)::_ZN12_GLOBAL__N_13clsclEi.Frame*)",
            "{anonymous}::cls::operator()(int)"},
        {"void {anonymous}::tmpl(tmpl<int>(int, "
         "aio::coro<int>*)::_ZN12_GLOBAL__N_14tmplIiEEN3aio4coroIT_EES3_PS4_.Frame*)",
            "{anonymous}::tmpl<int>(int, aio::coro<int>*)"},
        {"void main()::<lambda(int)>::operator()(main()::<lambda(int)>::_ZZ4mainENKUliE_clEi.Frame*)",
            "main()::<lambda(int)>"},
        {"void aio::detail::call_in_coro(call_in_coro<main()::<lambda(int)>, int>(main()::<lambda(int)>, "
         "int)::_ZN3aio6detail12call.Frame*)",
            "aio::detail::call_in_coro<main()::<lambda(int)>, int>(main()::<lambda(int)>, int)"},
        {"aio::coro<int> ns::f(int) [with T = int]", "aio::coro<int> ns::f(int) [with T = int]"},
        {"aio::coro<> Frame(Frame*)", "aio::coro<> Frame(Frame*)"},
        {"aio::v0::coro<aio::v0::task<int> > f(aio::v0::lock&)", "aio::coro<aio::task<int> > f(aio::lock&)"},
        {"void ns::f(f(aio::v0::coro<int>)::_ZN2ns1fEN3aio2v04coroIiEE.Frame*)", "ns::f(aio::coro<int>)"},
        {"", ""},
        {"::_Z.Frame*)", ""},
    };
    for (const auto& [given, expected] : names) EXPECT_EQ(readable_function(given), expected);
}

PLAIN_TEST("fault P14: a coroutine of the library is known by its name, and nobody else's is taken for one") {
    using aio::detail::is_of_the_library;
    for (const char* name :
        {"coro<int> aio::detail::call_in_coro(F, A...) [F = (lambda at sl.cpp:23:11), A = <int, const char *>]",
            "virtual coro<int> aio::detail::manager_exit<(anonymous namespace)::m>::leave(int) [M = (anonymous "
            "namespace)::m]",
            "coro<bool> aio::task_group::leave()", "aio::coro<int> aio::constrained(S) [with S = int]",
            "void aio::constrained(constrained<int>(int)::_ZN3aio11constrainedIiEENS_4coroIiEET_.Frame*)",
            "static coro<> aio::detail::merge_items::read(merge_state *, S *) [E = int, S = x]",
            "auto aio::detail::f(int)::(anonymous class)::operator()() const"}) {
        EXPECT_TRUE(is_of_the_library(std::string_view(name))) << name;
    }
    for (const char* name :
        {"aio::coro<> fails(std::string)", "aio::coro<int> (anonymous namespace)::tail(aio::detail::x)",
            "auto main()::(anonymous class)::operator()(aio::task_group &) const [x:auto = aio::task<>]",
            "aio::coro<aio::task<int>> mine::aio::f()", "aio::coro<T> tmpl(T) [T = aio::detail::x]",
            "void {anonymous}::tail(tail(aio::coro<int>*)::_ZN12_GLOBAL__N_14tail.Frame*)",
            "void main()::<lambda(aio::task_group&)>::operator()(main()::<lambda(aio::task_group&)>::_ZZ4main.Frame*)",
            "aio_test::f()", "main()::<lambda(int)>", "", "f"}) {
        EXPECT_FALSE(is_of_the_library(std::string_view(name))) << name;
    }
}

template<class T>
aio::coro<> waits_as(T) {
    co_await aio::sleep(1h);
}
struct waiting_class {
    aio::coro<> member(int) const { co_await waits_as(1); }
};

AIO_TEST(
    "faults P13, P14: real coroutines stand with names that a person writes, and those of the library are left out") {
    auto lambda = [](const waiting_class& c) -> aio::coro<> {
        co_await aio::with(aio::timeout(2h), [&] { return aio::wait_for(aio::gather(c.member(1), c.member(2)), 1h); });
    };
    const waiting_class c;
    auto t = aio::create_task(lambda, std::cref(c));
    auto alone = aio::create_task(aio::sleep(1h), {.name = "alone"});
    const int line = __LINE__ - 1;
    co_await turns(5);
    const aio::call_graph graph = aio::capture_call_graph();
    std::string all;
    for (const aio::call_graph_task& task : graph.tasks()) {
        for (const aio::call_frame& f : task.frames) {
            EXPECT_TRUE(std::string_view(f.file).ends_with("call_graph_test.cpp")) << f.file << " in " << f.function;
            all += f.function + std::string("\n");
        }
    }
    EXPECT_FALSE(contains(all, "Frame*") || contains(all, "_Z") || contains(all, "aio::detail")) << all;
    for (const char* name : {"waits_as", "waiting_class::member(int) const", "lambda"}) {
        if (std::string_view(name) == "lambda" && contains(all, "(anonymous class)::operator()(const waiting_class &)"))
            continue;  // the name that clang gives the lambda
        EXPECT_TRUE(contains(all, name)) << name << " in\n" << all;
    }
    EXPECT_TRUE(contains(graph.to_string(), "alone: waiting for sleep(3600s)\n    created at")) << graph.to_string();
    EXPECT_TRUE(contains(graph.to_string(), "call_graph_test.cpp:" + std::to_string(line)));
    t.cancel();
    alone.cancel();
    co_await turns(3);
}

PLAIN_TEST("decision (i): a deadlock report says of a task that max_running holds back that it waits for its turn") {
    auto deadlock = []() -> aio::coro<> {
        co_await aio::with(aio::task_group({.max_running = 1}), [](aio::task_group& tg) {
            tg.create_task({.name = "first"}, [&tg]() -> aio::coro<> {
                auto second = tg.create_task({.name = "second"}, []() -> aio::coro<> { co_return; });
                co_await second;
            });
        });
    };
    std::string report;
    try {
        aio::run(deadlock());
    } catch (const aio::deadlock_error& e) { report = e.what(); }
    EXPECT_TRUE(contains(report, "first: waiting for task second")) << report;
    EXPECT_TRUE(contains(report, "second: waiting for its turn in a task group")) << report;
}

AIO_TEST(
    "layers of tasks that gather the same tasks below: the graph names each task once, however many ways lead to it "
    "(CPython gh-156860)") {
    std::vector<aio::task<>> all{aio::create_task([]() -> aio::coro<> { co_await aio::sleep_forever(); })};
    std::vector<aio::task<>> below = all;
    auto on_top = [](std::vector<aio::task<>> tasks) -> aio::coro<> { co_await aio::gather(tasks); };
    for (int layer = 0; layer < 50; ++layer) {
        std::vector<aio::task<>> above;
        for (int i = 0; i < 2; ++i) above.push_back(aio::create_task(on_top, below));
        all.insert(all.end(), above.begin(), above.end());
        below = std::move(above);
    }
    co_await turns(2);
    const aio::call_graph graph = aio::capture_call_graph();
    EXPECT_EQ(graph.tasks().size(), all.size() + 1);
    EXPECT_LT(graph.to_string().size(), 1000 * all.size());
    for (aio::task<>& t : below) t.cancel();
    const auto sets = co_await aio::wait(all, {.timeout = 1s});
    EXPECT_TRUE(sets.pending.empty());
}

// The processor time of a deadlock report about so many tasks that wait for one lock.
double seconds_for_a_report(std::size_t tasks) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        auto deadlock = [tasks]() -> aio::coro<double> {
            aio::lock lock;
            co_await lock.acquire();
            std::vector<aio::task<>> waiters;
            for (std::size_t n = 0; n < tasks; ++n) {
                waiters.push_back(
                    aio::create_task([](aio::lock& l) -> aio::coro<> { co_await l.acquire(); }, std::ref(lock)));
            }
            co_await aio::sleep(0s);
            timespec before{}, after{};
            ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
            const std::string text = aio::capture_call_graph().to_string();
            ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
            EXPECT_TRUE(contains(text, "Task-2: waiting for lock held by Task-1"));
            EXPECT_TRUE(contains(
                text, "... and " + std::to_string(tasks + 1 - 1000) + " more tasks:\n    Task-1001, Task-1002, "));
            EXPECT_TRUE(text.ends_with("Task-" + std::to_string(tasks + 1) + "\n")) << text.substr(text.size() - 100);
            co_return static_cast<double>(after.tv_sec - before.tv_sec) +
                1e-9 * static_cast<double>(after.tv_nsec - before.tv_nsec);
        };
        best = std::min(best, aio::run(deadlock()));
    }
    return best;
}

PLAIN_TEST(
    "fault C14: a report of thousands of tasks on one lock names each, and takes no longer for each where there are "
    "more") {
    const double few = seconds_for_a_report(2'000), many = seconds_for_a_report(16'000);
    EXPECT_LT(many, 30 * few);  // 8 times as many tasks; a quadratic report would take 64 times as long
}

}  // namespace
