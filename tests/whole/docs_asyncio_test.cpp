// The code of docs/from_asyncio/index.md: `./dev rules` checks that each C++ block there stands here word for word.

#include "aio_test.hpp"

#include <cctype>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using aio_test::journal;

namespace {

// What the examples talk to.

journal said;

/// A stand-in for a connection.
class wire {
public:
    explicit wire(std::string address) : address_(std::move(address)) {}
    aio::coro<> send(std::string words) {
        co_await aio::sleep(1ms);
        said(std::move(words));
    }
    aio::coro<> hang_up() {
        co_await aio::sleep(1ms);
        said("hang-up");
    }

private:
    std::string address_;
};
aio::coro<std::unique_ptr<wire>> dial(std::string address) {
    co_await aio::sleep(1ms);
    said("dial");
    co_return std::make_unique<wire>(std::move(address));
}

/// Something to read that must be closed.
class book {
public:
    explicit book(std::string title) : title_(std::move(title)) {}
    aio::coro<std::optional<std::string>> next_page() {
        co_await aio::sleep(1ms);
        if (page_ == 3) co_return std::nullopt;
        co_return title_ + " " + std::to_string(++page_);
    }
    aio::coro<> aclose() {
        co_await aio::sleep(1ms);
        said("closed");
    }

private:
    std::string title_;
    int page_ = 0;
};

struct user {
    int id = 0;
    std::string name;
    bool active = false;
    user(int i, std::string n, bool a) : id(i), name(std::move(n)), active(a) {}
};
aio::async_generator<user> users(int count) {
    for (int id = 1; id <= count; ++id) {
        co_await aio::sleep(1ms);
        co_yield user(id, "user " + std::to_string(id), id % 2 == 1);
    }
}

aio::coro<std::string> slow_answer() {
    co_await aio::sleep(1h);
    co_return "42";
}

// ---- 1

// [async and await]
aio::coro<int> price_of(std::string item) {
    co_await aio::sleep(10ms);  // asks somebody
    if (item == "unicorn") throw std::out_of_range(item);
    co_return static_cast<int>(item.size());
}

aio::coro<std::vector<int>> prices_of(std::vector<std::string> items) {
    std::vector<aio::coro<int>> asked;
    for (const std::string& item : items) asked.push_back(price_of(item));
    co_return co_await aio::gather(std::move(asked));  // all at once, in order
}

aio::coro<std::vector<std::optional<int>>> known_prices(std::vector<std::string> items) {
    std::vector<aio::coro<int>> asked;
    for (const std::string& item : items) asked.push_back(price_of(item));
    std::vector<std::optional<int>> known;
    for (aio::result<int>& r : co_await aio::gather(aio::return_exceptions, std::move(asked))) {
        known.push_back(r.has_value() ? std::optional(r.value()) : std::nullopt);
    }
    co_return known;
}
// [end]

// [async and await: lazily]
std::string why(std::string item) {
    try {
        aio::run(price_of(std::move(item)));
    } catch (const std::out_of_range&) { return aio::async_trace(std::current_exception()).to_string(); }
    return "";
}

aio::coro<std::vector<int>> prices_of_many(std::vector<std::string> items) {
    co_return co_await aio::gather(items | std::views::transform(price_of), {.limit = 100});
}
// [end]

// ---- 2

// [task groups]
aio::coro<int> total(std::vector<std::string> items) {
    std::vector<aio::task<int>> tasks;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (const std::string& item : items) tasks.push_back(tg.create_task(price_of(item)));
    });  // all are done here
    int sum = 0;
    for (auto& t : tasks) sum += t.result();
    co_return sum;
}

aio::coro<std::vector<std::string>> unknown_of(std::vector<std::string> items) {
    std::vector<std::string> unknown;
    try {
        co_await total(std::move(items));
    } catch (const aio::exception_group& eg) {
        auto rest = eg.handle<std::out_of_range>([&](const std::out_of_range& e) { unknown.push_back(e.what()); });
        if (rest) throw *rest;
    }
    co_return unknown;
}
// [end]

// ---- 3

// [context managers: a class]
class shop {
public:
    explicit shop(std::string address) : address_(std::move(address)) {}

    aio::coro<shop&> enter() {
        wire_ = co_await dial(address_);
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr) {  // the error under way, or null
        co_await wire_->hang_up();
    }
    aio::coro<> say(std::string words) { co_await wire_->send(std::move(words)); }

private:
    std::string address_;
    std::unique_ptr<wire> wire_;
};

aio::coro<> greet() {
    co_await aio::with(shop("shop.example"), [](shop& s) { return s.say("hello"); });  // for a block
}

aio::coro<> greet_twice() {
    shop& s = co_await aio::enter(shop("shop.example"));  // for the rest of this coroutine, however it ends
    co_await s.say("hello");
    co_await s.say("hello again");
}
// [end]

// [context managers: a coroutine]
aio::context<shop&> order(shop& s) {
    co_await s.say("begin");
    std::exception_ptr& error = co_yield s;  // how the block ended
    if (error) {
        co_await s.say("take back");
    } else {
        co_await s.say("place");
    }
}  // the error goes on by itself; error = nullptr swallows it

aio::coro<> buy(shop& s, std::string item) {
    co_await aio::with(order(s), [&]() -> aio::coro<> {
        const int price = co_await price_of(item);
        co_await s.say(item + " for " + std::to_string(price));
    });
}

aio::coro<> answer(aio::stream customer, const std::string& motto) {
    const std::string name = co_await customer.read_line();
    co_await customer.write(motto + ", " + name);
}

aio::coro<> open_shop(std::string motto, std::string path) {
    aio::server door =
        co_await aio::start_unix_server([&](aio::stream customer) { return answer(std::move(customer), motto); }, path);
    co_await aio::with(door, [&] { return door.serve_forever(); });  // until it is cancelled
}
// [end]

// ---- 4

// [generators]
aio::async_generator<std::string> pages(std::string title) {
    book& b = co_await aio::enter(book(std::move(title)));  // closed when the generator ends, or is closed
    while (auto page = co_await b.next_page()) { co_yield *page; }
}

aio::coro<std::size_t> letters_in(std::string title) {
    std::size_t letters = 0;
    auto all = pages(std::move(title));
    while (auto page = co_await all.next()) { letters += page->size(); }
    co_return letters;
}

aio::coro<std::string> first_page(std::string title) {
    auto all = pages(std::move(title));
    std::string first;
    if (auto page = co_await all.next()) { first = *page; }
    co_await all.aclose();  // leaving early: otherwise the loop closes it, soon
    co_return first;
}
// [end]

// ---- 5

// [comprehensions]
std::pair<int, user> by_id(const user& u) { return {u.id, u}; }

aio::coro<std::vector<user>> all_users(int count) { co_return co_await (users(count) | aio::to<std::vector>()); }

aio::coro<std::map<int, user>> user_map(int count) {
    co_return co_await (users(count) | aio::views::transform(by_id) | aio::to<std::map>());
}

aio::coro<std::vector<std::string>> active_names(int count) {
    co_return co_await (
        users(count) | aio::views::filter(&user::active) | aio::views::transform(&user::name) | aio::to<std::vector>());
}
// [end]

// ---- 6

// [synchronisation]
class counters {
public:
    aio::coro<> add(std::string key, int n) {
        auto guard = co_await lock_.scoped();  // until the end of the block
        const int before = values_[key];
        co_await aio::sleep(1ms);
        values_[key] = before + n;
    }
    int operator[](const std::string& key) { return values_[key]; }

private:
    aio::lock lock_;
    std::map<std::string, int> values_;
};

class throttle {
public:
    explicit throttle(int most) : permits_(most) {}
    aio::coro<int> price(std::string item) {
        auto permit = co_await permits_.scoped();
        co_return co_await price_of(std::move(item));
    }

private:
    aio::semaphore permits_;
};

class service {
public:
    aio::coro<> run() {
        co_await aio::sleep(1ms);  // gets ready
        ready_.set();
        co_await stopped_.wait();
    }
    aio::coro<> wait_ready() { co_await ready_.wait(); }
    void stop() { stopped_.set(); }

private:
    aio::event ready_, stopped_;
};
// [end]

// ---- 7

// [queues]
aio::coro<> produce(aio::queue<std::string>& items, int count) {
    for (int i = 0; i < count; ++i) co_await items.put("item " + std::to_string(i));  // waits while it is full
}

aio::coro<> consume(aio::queue<std::string>& items, int& sum) {
    for (;;) {
        std::string item = co_await items.get();
        sum += co_await price_of(std::move(item));
        items.task_done();
    }
}

aio::coro<int> pipeline(int count, int workers) {
    aio::queue<std::string> items(10);
    int sum = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < workers; ++i) tg.create_task(consume(items, sum));
        co_await tg.create_task(produce(items, count));
        co_await items.join();
        tg.cancel();  // done: the consumers would wait for ever
    });
    co_return sum;
}
// [end]

// ---- 8

// [timeouts]
aio::coro<std::string> answer_within(aio::delay d) {
    try {
        co_return co_await aio::with(aio::timeout(d), [] { return slow_answer(); });
    } catch (const aio::timeout_error&) {}
    co_return "no answer";
}

aio::coro<std::vector<std::optional<int>>> prices_within(std::vector<std::string> items, aio::delay d) {
    std::vector<std::optional<int>> found(items.size());
    try {
        const std::vector<int> prices = co_await aio::wait_for(prices_of(items), d);
        found.assign(prices.begin(), prices.end());
    } catch (const aio::timeout_error&) {}
    co_return found;
}
// [end]

// ---- 9

// [background tasks]
aio::coro<> heartbeat(int& beats) {
    for (;;) {
        ++beats;
        co_await aio::sleep(1s);
    }
}

aio::coro<int> beats_in(aio::delay d) {
    int beats = 0;
    aio::background_tasks background;
    background.create_task(heartbeat(beats), {.name = "heartbeat"});
    co_await aio::sleep(d);
    co_await background.shutdown();  // cancels, and waits until they have ended
    co_return beats;
}
// [end]

// ---- 10

// [iteration]
class countdown {
public:
    explicit countdown(int from) : left_(from) {}

    aio::coro<std::optional<int>> next() {  // whatever is false at the end
        if (left_ == 0) co_return std::nullopt;
        co_await aio::sleep(1s);
        co_return left_--;
    }

private:
    int left_;
};

aio::coro<int> count_down(int from) {
    int sum = 0;
    countdown numbers(from);
    while (auto n = co_await numbers.next()) { sum += *n; }
    co_await aio::for_each(countdown(from), [&](int n) { sum += n; });  // the same
    co_return sum;
}
// [end]

// ---- 11

// [sync and async]
int count_vowels(const std::string& text) {  // takes its time, and blocks
    int vowels = 0;
    for (const char c : text) vowels += std::string("aeiou").find(c) != std::string::npos;
    return vowels;
}

aio::coro<int> vowels_in(std::string text) { co_return co_await aio::to_thread(&count_vowels, std::move(text)); }

aio::coro<int> vowels_in_all(std::vector<std::string> texts) {
    aio::thread_pool_executor& pool = co_await aio::enter(aio::thread_pool_executor(2));
    int vowels = 0;
    for (std::string& text : texts) vowels += co_await aio::run_in_executor(pool, &count_vowels, std::move(text));
    co_return vowels;
}

int price_now(std::string item) { return aio::run(price_of(std::move(item))); }  // from code that is not async

auto count_vowels_async = aio::to_async(&count_vowels);  // called as count_vowels, gives a coroutine
// [end]

// [cancellation]
aio::coro<std::string> interrupted(wire& w) {
    std::exception_ptr error;
    try {
        co_await w.send("working");
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { error = std::current_exception(); }
    if (error) {  // C++ has no co_await in a catch block
        co_await w.hang_up();
        std::rethrow_exception(error);
    }
    co_return "done";
}
// [end]

using names = std::vector<std::string>;

}  // namespace

AIO_TEST("async, await and gather") {
    const names two{"tea", "bread"}, three{"tea", "unicorn", "milk"};
    const std::vector<int> prices{3, 5};  // named: g++ 12 compiles no such braces inside a co_await expression
    const std::vector<std::optional<int>> some{3, std::nullopt, 4};
    EXPECT_EQ(co_await prices_of(two), prices);
    EXPECT_EQ(co_await prices_of_many(two), prices);
    EXPECT_EQ(co_await known_prices(three), some);
}

AIO_TEST("task groups") {
    const names two{"tea", "bread"}, bad{"tea", "unicorn"}, unknown{"unicorn"};
    EXPECT_EQ(co_await total(two), 8);
    EXPECT_EQ(co_await unknown_of(bad), unknown);
    EXPECT_TRUE((co_await unknown_of(two)).empty());
}

AIO_TEST("context managers") {
    said.entries.clear();
    co_await greet();
    EXPECT_EQ(said.text(), "dial hello hang-up");
    co_await greet_twice();
    EXPECT_EQ(said.text(), "dial hello hang-up dial hello hello again hang-up");
    said.entries.clear();
    shop& s = co_await aio::enter(shop("shop.example"));
    co_await buy(s, "tea");
    EXPECT_EQ(said.text(), "dial begin tea for 3 place");
    said.entries.clear();
    EXPECT_THROW(co_await buy(s, "unicorn"), std::out_of_range);
    EXPECT_EQ(said.text(), "begin take back");
}

AIO_REAL_TEST("a server is a context manager") {
    const std::string path = std::string(1, '\0') + "aio_docs_test." + std::to_string(::getpid());  // an abstract name
    auto open = aio::create_task(open_shop("welcome", path));
    co_await aio_test::turns(2);
    aio::stream customer = co_await aio::open_unix_connection(path);
    co_await customer.write("Ada\n");
    EXPECT_EQ(co_await customer.read(), "welcome, Ada\n");
    open.cancel();
    bool cancelled = false;
    try {
        co_await open;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_THROW(co_await aio::open_unix_connection(path), std::system_error);
}

AIO_TEST("generators") {
    said.entries.clear();
    EXPECT_EQ(co_await letters_in("a book"), 3u * 8);
    EXPECT_EQ(said.text(), "closed");
    EXPECT_EQ(co_await first_page("a book"), "a book 1");
    EXPECT_EQ(said.text(), "closed closed");
}

AIO_TEST("comprehensions") {
    EXPECT_EQ((co_await all_users(4)).size(), 4u);
    const auto map = co_await user_map(3);
    EXPECT_EQ(map.at(2).name, "user 2");
    const names active{"user 1", "user 3"};
    EXPECT_EQ(co_await active_names(4), active);
}

AIO_TEST("locks, semaphores, events") {
    counters c;
    throttle t(2);
    service s;
    const auto start = aio::get_running_loop().time();
    int sum = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(s.run());
        co_await s.wait_ready();
        for (int i = 0; i < 5; ++i) tg.create_task(c.add("key", i));
        for (int i = 0; i < 4; ++i) tg.create_task([&]() -> aio::coro<> { sum += co_await t.price("tea"); });
        s.stop();
    });
    EXPECT_EQ(c["key"], 10);
    EXPECT_EQ(sum, 12);
    EXPECT_EQ(aio::get_running_loop().time() - start, 21ms);  // 1 to get ready, two times 10 for four prices
}

AIO_TEST("queues") { EXPECT_EQ(co_await pipeline(30, 4), 10 * 6 + 20 * 7); }

AIO_TEST("timeouts") {
    EXPECT_EQ(co_await answer_within(1s), "no answer");
    EXPECT_EQ(co_await answer_within(2h), "42");
    const names two{"tea", "bread"};
    const std::vector<std::optional<int>> prices{3, 5}, none(2);
    EXPECT_EQ(co_await prices_within(two, 1s), prices);
    EXPECT_EQ(co_await prices_within(two, 1ms), none);
}

AIO_TEST("background tasks") { EXPECT_EQ(co_await beats_in(3500ms), 4); }

AIO_TEST("the iteration protocol") {
    EXPECT_EQ(co_await count_down(4), 20);
    const auto odd =
        co_await (countdown(5) | aio::views::filter([](int n) { return n % 2 == 1; }) | aio::to<std::vector>());
    EXPECT_EQ(odd, (std::vector{5, 3, 1}));
}

AIO_REAL_TEST("sync code from async code") {
    EXPECT_EQ(co_await vowels_in("coroutine"), 5);
    const names two{"tea", "bread"};
    EXPECT_EQ(co_await vowels_in_all(two), 4);
    EXPECT_EQ(co_await count_vowels_async("queue"), 4);
}

PLAIN_TEST("the traceback of an error") {
    EXPECT_EQ(why("tea"), "");
    const std::string text = why("unicorn");
    EXPECT_NE(text.find("price_of"), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with("std::out_of_range: unicorn\n")) << text;
}

PLAIN_TEST("async code from sync code") { EXPECT_EQ(price_now("tea"), 3); }

AIO_TEST("clean-up that awaits, in a task that is cancelled") {
    said.entries.clear();
    wire w("somewhere");
    auto t = aio::create_task(interrupted(w));
    co_await aio::sleep(1s);
    t.cancel();
    EXPECT_THROW(co_await t, aio::cancelled_error);
    EXPECT_EQ(said.text(), "working hang-up");
}
