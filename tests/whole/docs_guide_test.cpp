// The code of the pages in docs/guide/: `./dev rules` checks that each C++ block there stands here word for word, or in
// the suites of HTTP and SQL.

#include "aio_test.hpp"

#include <aio/testing.hpp>

#include <cctype>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

using aio_test::journal;

namespace {

// ---- coroutines.md

aio::coro<int> price_of(std::string item) {
    co_await aio::sleep(10ms);  // asks somebody
    if (item == "unicorn") throw std::out_of_range("there are no unicorns");
    co_return static_cast<int>(item.size());
}

aio::coro<int> total(std::vector<std::string> items) {
    int sum = 0;
    for (const std::string& item : items) sum += co_await price_of(item);
    co_return sum;
}

aio::coro<int> both() {
    aio::task<int> apple = aio::create_task(price_of("apple"));
    int pear = co_await price_of("pear");  // meanwhile the task runs
    co_return pear + co_await apple;
}

aio::coro<int> safe(std::string item) {
    auto ask = [item]() -> aio::coro<int> { co_return co_await price_of(item); };
    aio::task<int> t = aio::create_task(ask);  // the task keeps a copy of the lambda, and so of item
    co_return co_await t;
}

aio::coro<int> by_reference(std::vector<std::string> items) {
    int sum = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (const std::string& item : items) {
            tg.create_task([&]() -> aio::coro<> { sum += co_await price_of(item); });
        }
    });  // all tasks have ended here, so sum and items outlive them
    co_return sum;
}

aio::coro<std::string> greet_and_close(journal& log) {
    co_await aio::defer(
        [](journal& l) -> aio::coro<> {
            co_await aio::sleep(1ms);  // a good-bye takes time
            l("closed");
        },
        std::ref(log));
    log("opened");
    co_return "hello";
}

aio::async_generator<int> squares(int most) {
    for (int n = 1; n <= most; ++n) {
        co_await aio::sleep(1ms);  // it may wait, as any coroutine
        co_yield n* n;
    }
}

aio::coro<int> sum_of_squares() {
    int sum = 0;
    auto all = squares(3);
    while (auto square = co_await all.next()) { sum += *square; }
    co_return sum;
}

aio::coro<std::vector<int>> large_squares() {
    auto large = [](int n) { return n > 10; };
    co_return co_await (squares(5) | aio::views::filter(large) | aio::to<std::vector>());
}

aio::coro<std::string> counted_down() {
    std::string log;
    auto ticks = aio::interval(1s);  // the first at once, then one a second
    while (auto tick = co_await ticks.next()) {
        if (*tick == 3) break;
        log += std::to_string(3 - *tick) + " ";
    }
    co_return log;  // "3 2 1 "
}

aio::coro<> use_for_an_hour(int& users) {
    ++users;
    auto at_the_end = aio::finally([&] { --users; });
    co_await aio::sleep(1h);  // returns, throws or is cancelled: the count is right
}

// ---- cancellation.md

aio::coro<std::string> cancelled_in_time() {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await aio::sleep(1ms);
    t.cancel();
    try {
        co_await t;
    } catch (const aio::cancelled_error&) { co_return "cancelled"; }
    co_return "finished";
}

aio::coro<std::string> with_a_limit() {
    try {
        co_await aio::with(aio::timeout(5ms), []() -> aio::coro<> {
            co_await aio::sleep(1h);  // any number of waits; the limit is for all of them
        });
    } catch (const aio::timeout_error&) { co_return "too slow"; }
    co_return "in time";
}

aio::coro<int> ask_with_limit() {
    try {
        co_return co_await aio::wait_for(price_of("pear"), 1s);
    } catch (const aio::timeout_error&) { co_return -1; }
}

class audit {
public:
    explicit audit(journal& log) : log_(&log) {}
    aio::coro<> record(std::string what) {
        auto writing = background_.create_task(write(std::move(what)));
        co_await aio::shield(writing);  // who records may be cancelled; the record is written all the same
    }
    aio::coro<> aclose() { co_await background_.shutdown(); }

private:
    aio::coro<> write(std::string what) {
        co_await aio::sleep(5ms);
        (*log_)(std::move(what));
    }
    journal* log_;
    aio::background_tasks background_;
};

// ---- groups.md

aio::coro<int> three_prices() {
    auto [apple, pear, fig] = co_await aio::gather(price_of("apple"), price_of("pear"), price_of("fig"));
    co_return apple + pear + fig;
}

aio::coro<int> many_prices(std::vector<std::string> items) {
    auto prices = co_await (items | aio::views::concurrent(100, price_of) | aio::to<std::vector>());
    co_return std::accumulate(prices.begin(), prices.end(), 0);
}

aio::coro<int> ten_a_second(std::vector<std::string> items) {
    auto price = [](auto item_and_tick) -> aio::coro<int> { co_return co_await price_of(item_and_tick.first); };
    int sum = 0;
    auto add = [&sum](int cents) { sum += cents; };
    co_await aio::for_each(items | aio::views::zip(aio::interval(100ms)) | aio::views::concurrent(8, price), add);
    co_return sum;
}

aio::coro<std::string> ask_shops(std::vector<std::string> items) {
    std::string refused;
    try {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            for (const std::string& item : items) tg.create_task(price_of(item));
        });
    } catch (const aio::exception_group& group) {
        for (const std::exception_ptr& error : group.exceptions()) {
            try {
                std::rethrow_exception(error);
            } catch (const std::out_of_range& e) { refused += e.what(); }
        }
    }
    co_return refused;
}

aio::coro<std::string> fastest() {
    auto quick = []() -> aio::coro<std::string> { co_return "quick"; };
    auto slow = []() -> aio::coro<std::string> {
        co_await aio::sleep(1h);
        co_return "slow";
    };
    auto winner = co_await aio::race(quick(), slow());  // a std::variant
    co_return winner.index() == 0 ? std::get<0>(winner) : std::get<1>(winner);
}

aio::coro<std::vector<int>> as_they_come() {
    auto after = [](int ms) -> aio::coro<int> {
        co_await aio::sleep(std::chrono::milliseconds(ms));
        co_return ms;
    };
    const std::vector<int> delays{30, 10, 20};
    std::vector<int> seen;
    auto note = [&](int ms) { seen.push_back(ms); };
    co_await aio::for_each(delays | aio::views::unordered_concurrent(3, after), note);
    co_return seen;  // 10, 20, 30
}

// ---- synchronisation.md

class counter {
public:
    aio::coro<int> add() {
        auto guard = co_await lock_.scoped();  // released at the end of the block
        int seen = value_;
        co_await aio::sleep(1ms);  // without the lock, another task would see the same value
        value_ = seen + 1;
        co_return value_;
    }

private:
    aio::lock lock_;
    int value_ = 0;
};

aio::coro<int> pipeline(int items, int consumers) {
    aio::queue<int> q(10);
    int sum = 0;
    auto produce = [&]() -> aio::coro<> {
        for (int n = 1; n <= items; ++n) co_await q.put(n);
        q.shutdown();
    };
    auto consume = [&]() -> aio::coro<> {
        try {
            for (;;) {
                sum += co_await q.get();
                co_await aio::sleep(1ms);  // works on it
                q.task_done();
            }
        } catch (const aio::queue_shut_down&) {
            // all items have been taken
        }
    };
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        tg.create_task(produce);
        for (int c = 0; c < consumers; ++c) tg.create_task(consume);
    });
    co_return sum;
}

aio::coro<std::vector<int>> newest_only() {
    aio::watch<int> level(0);
    auto seen = level.subscribe();
    std::vector<int> values;
    for (int n = 1; n <= 3; ++n) level.set(n);  // nobody looks meanwhile
    if (auto value = co_await seen.next()) { values.push_back(*value); }
    co_return values;  // 3
}

aio::coro<std::string> heard_by_both() {
    aio::broadcast<std::string> news(16);  // keeps 16 items for subscribers that are behind
    std::string heard;
    auto listen = [&](auto subscription) -> aio::coro<> {
        while (auto item = co_await subscription.next()) { heard += *item + " "; }
    };
    auto first = aio::create_task(listen, news.subscribe());
    auto second = aio::create_task(listen, news.subscribe());
    news.send("tea");
    news.close();  // both get what was sent, and then nothing
    co_await aio::gather(first, second);
    co_return heard;  // "tea tea "
}

// ---- testing.md

aio::coro<bool> an_hour_passes() {
    const aio::time_point start = aio::get_running_loop().time();
    co_await aio::sleep(1h);
    co_return aio::get_running_loop().time() - start == 1h;
}

bool in_no_time() { return aio::testing::run(an_hour_passes(), {.virtual_time = true}); }

void no_money_is_lost() {
    int here = 100, there = 0;
    auto scenario = [&]() -> aio::coro<> {
        here = 100, there = 0;
        aio::lock lock;
        auto move_some = [&]() -> aio::coro<> {
            auto guard = co_await lock.scoped();
            co_await aio::sleep(1ms);
            here -= 10, there += 10;  // no co_await between the two
        };
        co_await aio::gather(move_some(), move_some());
    };
    auto check = [&] {
        if (here + there != 100) throw std::logic_error("money was lost");
    };
    aio::testing::brute_force(scenario, check);
}

aio::coro<std::string> answer_of(std::string question) {
    auto [client, server] = aio::testing::stream_pair();
    auto echo = [](aio::stream s) -> aio::coro<> { co_await s.write("you said " + co_await s.read_line()); };
    auto answering = aio::create_task(echo, std::move(server));
    co_await client.write(question + "\n");
    std::string answer = co_await client.read();  // to the end
    co_await answering;
    co_return answer;
}

// ---- streams.md

aio::coro<> shout_back(aio::stream client) {
    for (;;) {
        std::string line = co_await client.read_line();
        if (line.empty()) co_return;  // the client has ended
        for (char& c : line) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        co_await client.write(line);
    }
}

aio::coro<std::string> ask(std::string host, std::uint16_t port, std::string words) {
    aio::stream s = co_await aio::open_connection(host, port, {.connect_timeout = 5s});
    co_await s.write(words + "\n");
    std::string answer = co_await s.read_line();
    co_await s.aclose();
    co_return answer;
}

aio::coro<std::string> client_and_server() {
    auto server = co_await aio::start_server(shout_back, "127.0.0.1", 0);  // a free port
    co_return co_await aio::with(server, [&] { return ask("127.0.0.1", server.port(), "hear me"); });
}

aio::coro<std::size_t> count_words(std::filesystem::path path) {
    std::size_t words = 0;
    auto lines = aio::read_lines(path);
    while (auto line = co_await lines.next()) {
        std::istringstream in(*line);
        for (std::string word; in >> word;) ++words;
    }
    co_return words;
}

aio::coro<std::string> first_error(std::filesystem::path log) {
    auto lines = aio::follow_lines(log, {.from_start = true});
    while (auto line = co_await lines.next()) {
        if (line->starts_with("ERROR")) co_return *line;
    }
    co_return "";
}

aio::coro<std::string> sorted(std::string text) {
    auto how = aio::argv("sort", "-u");
    aio::subprocess p = co_await aio::create_subprocess_exec(how, {.in = aio::stdio::pipe, .out = aio::stdio::pipe});
    auto io = co_await p.communicate(text);
    if (co_await p.wait() != 0) { throw std::runtime_error("sort has failed"); }
    co_return io.out;
}

aio::coro<int> next_signal() {
    auto heard = aio::signals(aio::signal_set(SIGHUP, SIGUSR1));
    auto first = aio::create_task(heard.next());
    co_await aio::sleep(0s);
    std::raise(SIGUSR1);
    auto number = co_await first;
    co_return number ? *number : 0;
}

// ---- threads.md

std::uint64_t slow_sum(std::uint64_t n) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 1; i <= n; ++i) sum += i;
    return sum;
}

aio::coro<std::uint64_t> sum_beside() { co_return co_await aio::to_thread(slow_sum, 1000); }

std::uint64_t patient(std::stop_token stop) {
    std::uint64_t rounds = 0;
    while (!stop.stop_requested()) ++rounds;
    return rounds;
}

aio::coro<bool> stopped_in_time() {
    bool cancelled = false;
    auto t = aio::create_task([]() -> aio::coro<> {
        co_await aio::to_thread(patient);
        co_await aio::sleep_forever();  // the cancel, which came together with a result, is thrown here
    });
    co_await aio::sleep(5ms);
    t.cancel();
    try {
        co_await t;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    co_return cancelled;
}

aio::coro<std::string> asked_from_a_thread() {
    aio::loop_handle loop = aio::get_running_loop().handle();
    auto hello = []() -> aio::coro<std::string> {
        co_await aio::sleep(1ms);
        co_return "from the loop";
    };
    auto ask = [loop, hello] { return aio::run_coroutine_threadsafe(loop, hello).get(); };
    co_return co_await aio::to_thread(ask);
}

// ---- debugging.md

aio::coro<std::string> where_it_came_from() {
    std::exception_ptr error;
    try {
        co_await price_of("unicorn");
    } catch (const std::exception&) { error = std::current_exception(); }
    co_return aio::async_trace(error).to_string();
}

aio::coro<std::string> who_waits() {
    aio::event never;
    auto wait_for_it = [&]() -> aio::coro<> { co_await never.wait(); };
    auto t = aio::create_task(wait_for_it);
    co_await aio::sleep(1ms);
    std::string graph = aio::capture_call_graph().to_string();
    t.cancel();
    co_return graph;
}

aio::coro<std::string> told_to_the_handler() {
    std::string told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told = c.message; });
    aio::get_running_loop().call_soon([] { throw std::runtime_error("of a callback"); });
    co_await aio::sleep(1ms);
    aio::get_running_loop().set_exception_handler(nullptr);
    co_return told;
}

}  // namespace

AIO_TEST("the guide's coroutines give what they say") {
    const std::vector<std::string> items{"apple", "fig"};
    EXPECT_EQ(co_await total(items), 8);
    EXPECT_EQ(co_await both(), 9);
    EXPECT_EQ(co_await safe("fig"), 3);
    EXPECT_EQ(co_await by_reference(items), 8);
    journal log;
    EXPECT_EQ(co_await greet_and_close(log), "hello");
    EXPECT_EQ(log.text(), "opened closed");
}

AIO_TEST("the guide's cancellations and timeouts end as they say") {
    EXPECT_EQ(co_await cancelled_in_time(), "cancelled");
    EXPECT_EQ(co_await with_a_limit(), "too slow");
    EXPECT_EQ(co_await ask_with_limit(), 4);
}

AIO_TEST("the guide's record is written although its caller is cancelled") {
    journal log;
    audit records(log);
    auto t = aio::create_task([&]() -> aio::coro<> { co_await records.record("paid"); });
    co_await aio::sleep(1ms);
    t.cancel();
    co_await aio::sleep(10ms);
    EXPECT_EQ(log.text(), "paid");
    co_await records.aclose();
}

AIO_TEST("the guide's generators give their values, and its ticks come") {
    EXPECT_EQ(co_await sum_of_squares(), 14);
    const std::vector<int> large{16, 25};
    EXPECT_EQ(co_await large_squares(), large);
    EXPECT_EQ(co_await counted_down(), "3 2 1 ");
    int users = 0;
    auto using_it = aio::create_task(use_for_an_hour, std::ref(users));
    co_await aio::sleep(1s);
    EXPECT_EQ(users, 1);
    using_it.cancel();
    EXPECT_THROW(co_await using_it, aio::cancelled_error);
    EXPECT_EQ(users, 0);
}

AIO_TEST("the guide's groups give what they say") {
    EXPECT_EQ(co_await three_prices(), 12);
    const std::vector<std::string> items{"apple", "fig", "pear"};
    EXPECT_EQ(co_await many_prices(items), 12);
    const aio::time_point start = aio::get_running_loop().time();
    EXPECT_EQ(co_await ten_a_second(items), 12);
    EXPECT_GE(aio::get_running_loop().time() - start, 200ms);
    const std::vector<std::string> strange{"apple", "unicorn"};
    EXPECT_EQ(co_await ask_shops(strange), "there are no unicorns");
    EXPECT_EQ(co_await fastest(), "quick");
    const std::vector<int> in_order{10, 20, 30};
    EXPECT_EQ(co_await as_they_come(), in_order);
}

AIO_TEST("the guide's lock, queue and watch do what they say") {
    counter c;
    co_await aio::gather(c.add(), c.add(), c.add());
    EXPECT_EQ(co_await c.add(), 4);
    EXPECT_EQ(co_await pipeline(100, 3), 5050);
    const std::vector<int> newest{3};
    EXPECT_EQ(co_await newest_only(), newest);
    EXPECT_EQ(co_await heard_by_both(), "tea tea ");
}

TEST(guide, tests_need_no_clock_and_lose_nothing) {
    EXPECT_TRUE(in_no_time());
    no_money_is_lost();
    EXPECT_EQ(aio::testing::run(answer_of("what?")), "you said what?\n");
}

AIO_REAL_TEST("the guide's streams, files, processes and signals work") {
    EXPECT_EQ(co_await client_and_server(), "HEAR ME\n");
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    co_await aio::write_file(folder / "text", "one two\nthree\n");
    co_await aio::write_file(folder / "log", "INFO all is well\nERROR no more\n");
    EXPECT_EQ(co_await first_error(folder / "log"), "ERROR no more");
    EXPECT_EQ(co_await count_words(folder / "text"), 3u);
    EXPECT_EQ(co_await sorted("b\na\nb\n"), "a\nb\n");
    EXPECT_EQ(co_await next_signal(), SIGUSR1);
}

AIO_REAL_TEST("the guide's ways between threads work") {
    EXPECT_EQ(co_await sum_beside(), 500500u);
    EXPECT_TRUE(co_await stopped_in_time());
    EXPECT_EQ(co_await asked_from_a_thread(), "from the loop");
}

AIO_TEST("the guide's ways to see what happens show it") {
    EXPECT_NE((co_await where_it_came_from()).find("price_of"), std::string::npos);
    EXPECT_NE((co_await who_waits()).find("event"), std::string::npos);
    EXPECT_NE((co_await told_to_the_handler()).find("callback"), std::string::npos);
}
