#include "aio_test.hpp"

#include <aio/gather.hpp>
#include <aio/race.hpp>
#include <aio/views.hpp>

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;
namespace views = aio::views;

namespace {

struct user {
    int id = 0;
    std::string name;
    bool active = false;
    bool is_active() const { return active; }
};

aio::async_generator<user> fetch_users(int n) {
    for (int i = 0; i < n; ++i) {
        co_await aio::sleep(1s);
        user u{i, "user " + std::to_string(i), i % 2 == 0};
        co_yield std::move(u);
    }
}

aio::async_generator<int> count(int n, int from = 0) {
    for (int i = from; i < from + n; ++i) co_yield i;
}

aio::coro<> note_later(std::reference_wrapper<journal> j, std::string what) {
    co_await aio::sleep(0s);
    j.get()(what + "-closed");
}

aio::async_generator<int> with_cleanup(journal& j, std::string name, int n = 1000) {
    co_await aio::defer(&note_later, std::ref(j), name);
    for (int i = 0; i < n; ++i) co_yield i;
}

using ints = std::vector<int>;
using strings = std::vector<std::string>;

template<class A>
aio::coro<std::string> error_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (const std::exception& e) { co_return e.what(); } catch (const aio::cancelled_error&) {
        co_return "cancelled";
    }
    co_return "";
}

// ---- comprehensions ----

AIO_TEST("filter takes a member pointer, a member function, a lambda, and an async function") {
    auto active = co_await (fetch_users(5) | views::filter(&user::active) | aio::to<std::vector>());
    EXPECT_EQ(active.size(), 3u);
    EXPECT_EQ(active.at(2).name, "user 4");
    const auto first = co_await (fetch_users(5) | views::filter(&user::is_active) | aio::to<std::vector>());
    EXPECT_EQ(first.size(), 3u);
    const auto second = co_await (count(6) | views::filter([](int n) { return n > 3; }) | aio::to<std::vector>());
    EXPECT_EQ(second, (ints{4, 5}));
    auto slow = [](int n) -> aio::coro<bool> {
        co_await aio::sleep(1s);
        co_return n % 3 == 0;
    };
    const auto other = co_await (count(7) | views::filter(slow) | aio::to<std::vector>());
    EXPECT_EQ(other, (ints{0, 3, 6}));
}

std::pair<int, std::string> id_and_name(const user& u) { return {u.id, u.name}; }

AIO_TEST("transform and to<std::map>() make a dict; of equal keys the last one wins") {
    std::map<int, std::string> names = co_await (fetch_users(3) | views::transform(id_and_name) | aio::to<std::map>());
    EXPECT_EQ(names, (std::map<int, std::string>{{0, "user 0"}, {1, "user 1"}, {2, "user 2"}}));
    auto parity = [](int n) { return std::pair(n % 2, n); };
    const auto got = co_await (count(5) | views::transform(parity) | aio::to<std::map>());
    EXPECT_EQ(got, (std::map<int, int>{{0, 4}, {1, 3}}));
}

AIO_TEST("transform gives values, references, members, and what an async function gives") {
    auto doubled = [](int n) -> aio::coro<std::string> {
        co_await aio::sleep(1s);
        co_return std::to_string(n * 2);
    };
    const auto got = co_await (count(3) | views::transform(doubled) | aio::to<std::vector>());
    EXPECT_EQ(got, (strings{"0", "2", "4"}));
    strings names = co_await (fetch_users(2) | views::transform(&user::name) | aio::to<std::vector>());
    EXPECT_EQ(names, (strings{"user 0", "user 1"}));

    std::vector<user> users(3);
    auto refer = [](std::vector<user>& all) -> aio::async_generator<user&> {
        for (user& u : all) co_yield u;
    };
    co_await aio::for_each(refer(users) | views::transform(&user::id), [](int& id) { id = 7; });
    EXPECT_EQ(users.at(2).id, 7);
    auto unique = count(2) | views::transform([](int n) { return std::make_unique<int>(n); });
    int sum = 0;
    while (auto p = co_await unique.next()) { sum += **p + 1; }
    EXPECT_EQ(sum, 3);
}

AIO_TEST("to<> fills vectors, lists, sets, strings, multimaps, and types that are spelt out") {
    const auto first = co_await (count(3) | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{0, 1, 2}));
    const auto second = co_await (count(3) | aio::to<std::vector<double>>());
    EXPECT_EQ(second, (std::vector<double>{0, 1, 2}));
    const auto other = co_await (count(3) | aio::to<std::list>());
    EXPECT_EQ(other, (std::list<int>{0, 1, 2}));
    auto third = [](int n) { return n % 3; };
    const auto fourth = co_await (count(7) | views::transform(third) | aio::to<std::set>());
    EXPECT_EQ(fourth, (std::set<int>{0, 1, 2}));
    auto letter = [](int n) { return static_cast<char>('a' + n); };
    const auto fifth = co_await (count(3) | views::transform(letter) | aio::to<std::string>());
    EXPECT_EQ(fifth, "abc");
    auto word = [](int n) { return std::to_string(n) + ";"; };
    const auto sixth = co_await (count(3) | views::transform(word) | aio::to<std::string>());
    EXPECT_EQ(sixth, "0;1;2;");
    auto parity = [](int n) { return std::pair(n % 2, n); };
    const auto seventh = co_await (count(5) | views::transform(parity) | aio::to<std::multimap<int, int>>());
    EXPECT_EQ(seventh.count(0), 3u);
    auto as_tuple = [](int n) { return std::tuple(n, n * n); };
    const auto eighth = co_await (count(3) | views::transform(as_tuple) | aio::to<std::map>());
    EXPECT_EQ(eighth.at(2), 4);
}

AIO_TEST("to<> moves the items of a generator, and copies what is somebody else's") {
    auto owned =
        co_await (count(2) | views::transform([](int n) { return std::make_unique<int>(n); }) | aio::to<std::vector>());
    EXPECT_EQ(*owned.at(1), 1);
    strings words{"a long text that is on the heap", "another"};
    auto refer = [](strings& all) -> aio::async_generator<std::string&> {
        for (std::string& s : all) co_yield s;
    };
    strings copies = co_await (refer(words) | aio::to<std::vector>());
    EXPECT_EQ(copies, words);
    EXPECT_EQ(words.at(0), "a long text that is on the heap");
}

AIO_TEST("take asks for no more than it gives; drop leaves out") {
    int asked = 0;
    auto counting = [](int& n) -> aio::async_generator<int> {
        for (;;) {
            ++n;
            co_yield n;
        }
    };
    const auto first = co_await (counting(asked) | views::take(3) | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{1, 2, 3}));
    EXPECT_EQ(asked, 3);
    const auto second = co_await (counting(asked) | views::take(0) | aio::to<std::vector>());
    EXPECT_EQ(second, ints{});
    EXPECT_EQ(asked, 3);
    const auto other = co_await (count(2) | views::take(5) | aio::to<std::vector>());
    EXPECT_EQ(other, (ints{0, 1}));
    const auto fourth = co_await (count(5) | views::drop(3) | aio::to<std::vector>());
    EXPECT_EQ(fourth, (ints{3, 4}));
    const auto fifth = co_await (count(2) | views::drop(3) | aio::to<std::vector>());
    EXPECT_EQ(fifth, ints{});
}

AIO_TEST("an lvalue source is referred to, and goes on where the view has stopped") {
    auto numbers = count(10);
    const auto first = co_await (numbers | views::take(3) | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{0, 1, 2}));
    const auto second = co_await (numbers | views::take_while([](int n) { return n < 5; }) | aio::to<std::vector>());
    EXPECT_EQ(second, (ints{3, 4}));
    const auto other = co_await (numbers | aio::to<std::vector>());
    EXPECT_EQ(other, (ints{6, 7, 8, 9}));
}

AIO_TEST("take_while stops before the first for which the function is false") {
    auto less = [](int n) -> aio::coro<bool> {
        co_await aio::sleep(0s);
        co_return n < 3;
    };
    const auto got = co_await (count(10) | views::take_while(less) | aio::to<std::vector>());
    EXPECT_EQ(got, (ints{0, 1, 2}));
}

AIO_TEST("enumerate gives pairs of the index and the item, with or without parentheses") {
    auto numbered =
        co_await (fetch_users(2) | views::transform(&user::name) | views::enumerate | aio::to<std::vector>());
    EXPECT_EQ(numbered, (std::vector<std::pair<std::size_t, std::string>>{{0, "user 0"}, {1, "user 1"}}));
    auto lines = count(3, 5) | views::enumerate();
    std::size_t sum = 0;
    while (auto line = co_await lines.next()) {
        auto& [index, item] = *line;
        sum += index * static_cast<std::size_t>(item);
    }
    EXPECT_EQ(sum, 6u + 14u);
}

AIO_TEST("zip gives pairs of two, tuples of more, and ends with the shortest") {
    auto letters = [](std::string text) -> aio::async_generator<char> {
        for (char c : text) co_yield c;
    };
    auto pairs = co_await (views::zip(count(5), letters("abc")) | aio::to<std::vector>());
    EXPECT_EQ(pairs, (std::vector<std::pair<int, char>>{{0, 'a'}, {1, 'b'}, {2, 'c'}}));
    auto triples = co_await (views::zip(count(5), letters("ab"), count(5, 10)) | aio::to<std::vector>());
    EXPECT_EQ(triples, (std::vector<std::tuple<int, char, int>>{{0, 'a', 10}, {1, 'b', 11}}));
    const auto got = co_await (count(5) | views::zip(letters("ab")) | aio::to<std::map>());
    EXPECT_EQ(got, (std::map<int, char>{{0, 'a'}, {1, 'b'}}));
}

AIO_TEST("chunk gives vectors of n, the last one shorter; 0 is refused") {
    const auto first = co_await (count(5) | views::chunk(2) | aio::to<std::vector>());
    EXPECT_EQ(first, (std::vector<ints>{{0, 1}, {2, 3}, {4}}));
    const auto second = co_await (count(4) | views::chunk(2) | aio::to<std::vector>());
    EXPECT_EQ(second, (std::vector<ints>{{0, 1}, {2, 3}}));
    EXPECT_THROW(views::chunk(0), std::invalid_argument);
}

AIO_TEST("flatten reads generators of generators, of views and of plain ranges") {
    auto generators = []() -> aio::async_generator<aio::async_generator<int>> {
        for (int i = 1; i <= 3; ++i) co_yield count(i);
    };
    const auto first = co_await (generators() | views::flatten | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{0, 0, 1, 0, 1, 2}));
    const auto second = co_await (count(5) | views::chunk(2) | views::flatten() | aio::to<std::vector>());
    EXPECT_EQ(second, (ints{0, 1, 2, 3, 4}));
    auto tail = [](int n) { return count(10, n) | views::drop(8); };
    const auto other = co_await (count(2) | views::transform(tail) | views::flatten | aio::to<std::vector>());
    EXPECT_EQ(other, (ints{8, 9, 9, 10}));
    auto words = [](int n) { return strings{std::to_string(n), "-"}; };
    const auto fourth = co_await (count(2) | views::transform(words) | views::flatten | aio::to<std::string>());
    EXPECT_EQ(fourth, "0-1-");
}

AIO_TEST("plain ranges are sources, too") {
    const ints numbers{1, 2, 3};
    const auto first = co_await (numbers | views::transform([](int n) { return n * n; }) | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{1, 4, 9}));
    strings words{"one", "two"};
    strings moved = co_await (
        std::move(words) | views::filter([](const std::string& s) { return s != "one"; }) | aio::to<std::vector>());
    EXPECT_EQ(moved, strings{"two"});
    const auto second = co_await (views::zip(numbers, count(2)) | aio::to<std::map>());
    EXPECT_EQ(second, (std::map<int, int>{{1, 0}, {2, 1}}));
}

AIO_TEST("a view may be moved, kept, and given to for_each") {
    auto even = count(6) | views::filter([](int n) { return n % 2 == 0; });
    EXPECT_EQ(*co_await even.next(), 0);
    auto moved = std::move(even);
    EXPECT_EQ(*co_await moved.next(), 2);
    ints rest;
    co_await aio::for_each(moved | views::transform([](int n) { return n + 1; }), [&](int n) { rest.push_back(n); });
    EXPECT_EQ(rest, ints{5});
}

struct countdown {
    int left;
    aio::coro<std::optional<std::string>> next() {
        co_await aio::sleep(0s);
        if (left == 0) co_return std::nullopt;
        co_return std::to_string(left--);
    }
};

AIO_TEST("whatever has an awaitable next() composes") {
    countdown c{3};
    const auto first =
        co_await (c | views::filter([](const std::string& s) { return s != "2"; }) | aio::to<std::vector>());
    EXPECT_EQ(first, (strings{"3", "1"}));
    const auto second = co_await (countdown{2} | views::enumerate | aio::to<std::map>());
    EXPECT_EQ(second, (std::map<std::size_t, std::string>{{0, "2"}, {1, "1"}}));
}

// ---- closing ----

AIO_TEST("| to<>() closes the sources that it owns, at its end, by an error, and when it is cancelled") {
    journal j;
    co_await (with_cleanup(j, "end") | views::take(2) | views::enumerate | aio::to<std::vector>());
    EXPECT_EQ(j.text(), "end-closed");
    auto fail = [](int n) -> int { throw std::runtime_error("at " + std::to_string(n)); };
    const auto got =
        co_await error_of(with_cleanup(j, "error") | views::drop(1) | views::transform(fail) | aio::to<std::vector>());
    EXPECT_EQ(got, "at 1");
    auto hang = [](int) -> aio::coro<int> {
        co_await aio::sleep_forever();
        co_return 1;
    };
    auto cancelled =
        aio::create_task(error_of(with_cleanup(j, "cancel") | views::transform(hang) | aio::to<std::vector>()));
    co_await turns(2);
    cancelled.cancel();
    EXPECT_EQ(co_await cancelled, "cancelled");
    EXPECT_EQ(j.text(), "end-closed error-closed cancel-closed");
}

AIO_TEST("aclose() of a view closes it and all that it owns, the last part first, and nothing that it refers to") {
    journal j;
    auto mine = with_cleanup(j, "mine");
    auto zipped = views::zip(with_cleanup(j, "a"), with_cleanup(j, "b"), mine) | views::drop(1);
    auto first = co_await zipped.next();
    EXPECT_EQ(std::get<2>(*first), 1);
    co_await zipped.aclose();
    co_await zipped.aclose();
    EXPECT_TRUE(co_await zipped.next() == nullptr);
    EXPECT_EQ(j.text(), "b-closed a-closed");
    EXPECT_EQ(*co_await mine.next(), 2);
    co_await mine.aclose();
}

AIO_TEST("flatten closes the inner one that it reads, too, and each that it has left") {
    journal j;
    auto outer = [](journal& out) -> aio::async_generator<aio::async_generator<int>> {
        co_await aio::defer(&note_later, std::ref(out), std::string("outer"));
        for (int i = 0; i < 3; ++i) co_yield with_cleanup(out, "inner" + std::to_string(i), 2);
    };
    const auto got = co_await (outer(j) | views::flatten | views::take(3) | aio::to<std::vector>());
    EXPECT_EQ(got, (ints{0, 1, 0}));
    EXPECT_EQ(j.text(), "inner0-closed inner1-closed outer-closed");
}

AIO_TEST("a dropped view leaves its sources to the loop") {
    journal j;
    {
        auto view = with_cleanup(j, "g") | views::drop(1);
        co_await view.next();
    }
    j("dropped");
    co_await turns(3);
    EXPECT_EQ(j.text(), "dropped g-closed");
}

AIO_TEST("a view that is destroyed while its next item is awaited ends there, with an error") {
    auto slow = fetch_users(3) | views::transform(&user::id);
    auto view = std::make_unique<decltype(slow)>(std::move(slow));
    auto waiting = aio::create_task([&]() -> aio::coro<> { co_await view->next(); });
    co_await turns(2);
    view.reset();
    EXPECT_NE((co_await error_of(waiting)).find("destroyed while its next item was awaited"), std::string::npos);
}

AIO_TEST("an error of a view ends it; an error of a source comes through") {
    auto fail = [](int n) {
        if (n == 1) throw std::runtime_error("one");
        return n;
    };
    auto view = count(5) | views::transform(fail);
    EXPECT_EQ(*co_await view.next(), 0);
    EXPECT_EQ(co_await error_of(view.next()), "one");
    EXPECT_TRUE(co_await view.next() == nullptr);
    auto broken = []() -> aio::async_generator<int> {
        co_yield 1;
        throw std::runtime_error("source");
    };
    const auto got = co_await error_of(broken() | views::chunk(5) | aio::to<std::vector>());
    EXPECT_EQ(got, "source");
}

// ---- merge ----

aio::async_generator<int> every(std::chrono::seconds period, int n, int from) {
    for (int i = from; i < from + n; ++i) {
        co_await aio::sleep(period);
        co_yield i;
    }
}

AIO_TEST("merge gives the items of all as they come") {
    auto merged = co_await (views::merge(every(2s, 3, 0), every(3s, 2, 10), every(7s, 1, 20)) | aio::to<std::vector>());
    EXPECT_EQ(merged, (ints{0, 10, 1, 11, 2, 20}));
    auto two = co_await (every(2s, 2, 0) | views::merge(every(3s, 1, 10)) | aio::to<std::vector>());
    EXPECT_EQ(two, (ints{0, 10, 1}));
}

AIO_TEST("merge takes its fill from ready sources in turn, and refers to lvalues") {
    auto a = count(3), b = count(3, 10);
    auto merged = views::merge(a, b);
    ints seen;
    while (auto n = co_await merged.next()) { seen.push_back(*n); }
    EXPECT_EQ(seen, (ints{0, 10, 1, 11, 2, 12}));
}

AIO_TEST("merge of different items gives what they have in common; items may be move-only") {
    auto texts = [](std::string text) -> aio::async_generator<std::string> { co_yield text; };
    auto literal = []() -> aio::async_generator<const char*> { co_yield "literal"; };
    const auto got = co_await (views::merge(texts("text"), literal()) | aio::to<std::set>());
    EXPECT_EQ(got, (std::set<std::string>{"literal", "text"}));
    auto owned = [](int n) { return std::make_unique<int>(n); };
    auto pointers = co_await (
        views::merge(count(2) | views::transform(owned), count(1) | views::transform(owned)) | aio::to<std::vector>());
    EXPECT_EQ(pointers.size(), 3u);
}

AIO_TEST("merge ends with the first error, and closes the others") {
    journal j;
    auto broken = []() -> aio::async_generator<int> {
        co_await aio::sleep(5s);
        throw std::runtime_error("broken");
        co_yield 1;
    };
    auto slow = [](journal& out) -> aio::async_generator<int> {
        co_await aio::defer(&note_later, std::ref(out), std::string("slow"));
        co_yield 1;
        co_await aio::sleep_forever();
    };
    const auto got = co_await error_of(views::merge(slow(j), broken()) | aio::to<std::vector>());
    EXPECT_EQ(got, "broken");
    EXPECT_EQ(j.text(), "slow-closed");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST(
    "two sources of merge that fail in the same turn: one error leaves, the other goes to the exception handler "
    "(aiostream 71)") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler(
        [&told](const aio::exception_context& c) { told.push_back(aio::detail::describe(c.error)); });
    auto broken = [](std::string name) -> aio::async_generator<int> {
        co_await aio::sleep(1s);
        throw std::runtime_error(name);
        co_yield 1;
    };
    EXPECT_EQ(co_await error_of(views::merge(broken("first"), broken("second")) | aio::to<std::vector>()), "first");
    co_await turns(2);
    aio::get_running_loop().set_exception_handler(nullptr);
    EXPECT_EQ(told.size(), 1u);
    EXPECT_NE(told.empty() ? std::string::npos : told[0].find("second"), std::string::npos);
}

AIO_TEST("aclose() of merge cancels and awaits its tasks; dropped, the loop does") {
    journal j;
    auto merged = views::merge(with_cleanup(j, "a"), with_cleanup(j, "b"));
    co_await merged.next();
    EXPECT_EQ(aio::all_tasks().size(), 3u);
    co_await merged.aclose();
    EXPECT_EQ(aio::all_tasks().size(), 1u);
    EXPECT_EQ(j.text(), "b-closed a-closed");
    j.entries.clear();
    {
        auto dropped = views::merge(with_cleanup(j, "c"), with_cleanup(j, "d"));
        co_await dropped.next();
    }
    co_await turns(8);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
    EXPECT_EQ(j.entries.size(), 2u);
}

// ---- concurrent ----

struct load {
    int now = 0, most = 0;
    aio::coro<int> work(int n, std::chrono::seconds takes) {
        most = std::max(most, ++now);
        auto leave = [](std::reference_wrapper<int> count) { --count.get(); };
        co_await aio::defer(leave, std::ref(now));
        co_await aio::sleep(takes);
        co_return n;
    }
};

AIO_TEST("concurrent maps at most n at once, and gives the results in order") {
    load l;
    auto fn = [&](int n) { return l.work(n, std::chrono::seconds(10 - n)); };
    const auto got = co_await (count(8) | views::concurrent(3, fn) | aio::to<std::vector>());
    EXPECT_EQ(got, (ints{0, 1, 2, 3, 4, 5, 6, 7}));
    EXPECT_EQ(l.most, 3);
    EXPECT_EQ(l.now, 0);
}

AIO_TEST("unordered_concurrent gives the results as they come") {
    load l;
    auto fn = [&](int n) { return l.work(n, std::chrono::seconds(n == 0 ? 10 : 1)); };
    const auto got = co_await (count(5) | views::unordered_concurrent(2, fn) | aio::to<std::vector>());
    EXPECT_EQ(got, (ints{1, 2, 3, 4, 0}));
    EXPECT_EQ(l.most, 2);
}

AIO_TEST("concurrent gives a result although the source has nothing more for now") {
    auto then_never = []() -> aio::async_generator<int> {
        co_yield 1;
        co_await aio::sleep(1h);
        co_yield 2;
    };
    const aio::time_point start = aio::get_running_loop().time();
    ints seen;
    auto minutes = [&] { return (aio::get_running_loop().time() - start) / 1min; };
    co_await aio::for_each(then_never() | views::unordered_concurrent(4, [](int n) { return n; }), [&](int n) {
        seen.push_back(n);
        seen.push_back(static_cast<int>(minutes()));
    });
    EXPECT_EQ(seen, (ints{1, 0, 2, 60}));
}

AIO_TEST("concurrent reads its source only as far as there is room") {
    int asked = 0;
    auto counting = [](int& n) -> aio::async_generator<int> {
        for (;;) {
            ++n;
            co_yield n;
        }
    };
    auto identity = [](int n) -> aio::coro<int> {
        co_await aio::sleep(0s);
        co_return n;
    };
    int given = 0;
    co_await (counting(asked) | views::concurrent(3, identity) | views::take_while([&](int) {
        ++given;
        EXPECT_LE(asked, given + 3);
        return given < 50;
    }) | aio::to<std::vector>());
    EXPECT_EQ(given, 50);
}

AIO_TEST("concurrent takes plain functions, functions of void, references, and move-only results; 0 is refused") {
    const auto got = co_await (count(3) | views::concurrent(2, [](int n) { return n * 2; }) | aio::to<std::vector>());
    EXPECT_EQ(got, (ints{0, 2, 4}));
    int sum = 0;
    auto add = [&](int n) -> aio::coro<> {
        co_await aio::sleep(1s);
        sum += n;
    };
    co_await aio::for_each(count(5) | views::concurrent(2, add), [](std::monostate) {});
    EXPECT_EQ(sum, 10);
    auto owned = co_await (
        count(2) | views::concurrent(2, [](int n) { return std::make_unique<int>(n); }) | aio::to<std::vector>());
    EXPECT_EQ(*owned.at(1), 1);
    ints values{1, 2, 3};
    auto refer = [](int& n) -> int& { return n; };
    co_await aio::for_each(values | views::concurrent(2, refer), [](int& n) { n *= 10; });
    EXPECT_EQ(values, (ints{10, 20, 30}));
    EXPECT_THROW(views::concurrent(0, add), std::invalid_argument);
    EXPECT_THROW(views::unordered_concurrent(0, add), std::invalid_argument);
}

AIO_TEST("concurrent views have no next() of their own, nor what is made of them") {
    auto fn = [](int n) { return n; };
    auto view = count(3) | views::concurrent(2, fn);
    auto further = count(3) | views::unordered_concurrent(2, fn) | views::enumerate;
    static_assert(!aio::async_iterable<decltype(view)>);
    static_assert(!aio::async_iterable<decltype(further)>);
    const auto first = co_await (view | aio::to<std::vector>());
    EXPECT_EQ(first, (ints{0, 1, 2}));
    const auto second = co_await (std::move(further) | aio::to<std::map>());
    EXPECT_EQ(second.size(), 3u);
}

AIO_TEST("decision (c): an error in one call cancels and awaits the others before it leaves") {
    journal j;
    auto fn = [&](int n) -> aio::coro<int> {
        co_await aio::defer(&note_later, std::ref(j), std::to_string(n));
        if (n == 1) throw std::runtime_error("one");
        co_await aio::sleep(n == 0 ? std::chrono::seconds(1) : std::chrono::seconds(1000));
        co_return n;
    };
    ints seen;
    const auto first = co_await error_of(
        aio::for_each(with_cleanup(j, "source") | views::concurrent(3, fn), [&](int n) { seen.push_back(n); }));
    EXPECT_EQ(first, "one");
    EXPECT_EQ(seen, ints{0});
    EXPECT_EQ(j.entries.back(), "source-closed");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
    j.entries.clear();
    const auto second = co_await error_of(count(9) | views::unordered_concurrent(3, fn) | aio::to<std::vector>());
    EXPECT_EQ(second, "one");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("an error of the source leaves once the results before it have been given") {
    auto broken = []() -> aio::async_generator<int> {
        co_yield 1;
        co_yield 2;
        throw std::runtime_error("source");
    };
    auto slow = [](int n) -> aio::coro<int> {
        co_await aio::sleep(1s);
        co_return n;
    };
    ints seen;
    const auto got =
        co_await error_of(aio::for_each(broken() | views::concurrent(4, slow), [&](int n) { seen.push_back(n); }));
    EXPECT_EQ(got, "source");
    EXPECT_EQ(seen, (ints{1, 2}));
}

AIO_TEST("a second cancel does not leave the owned tasks behind") {
    journal j;
    auto stubborn = [&](int n) -> aio::coro<int> {
        co_await aio::defer(&note_later, std::ref(j), std::string("call"));
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) { j("told"); }
        co_await aio::shield(aio::sleep(5s));
        co_return n;
    };
    auto subject = aio::create_task(
        [&]() -> aio::coro<> { co_await aio::for_each(count(1) | views::concurrent(1, stubborn), [](int) {}); });
    co_await aio::sleep(1s);
    subject.cancel();
    co_await aio::sleep(1s);
    EXPECT_FALSE(subject.done());
    subject.cancel();
    EXPECT_EQ(co_await error_of(subject), "cancelled");
    EXPECT_EQ(j.text(), "told call-closed");
}

PLAIN_TEST("cancelled at every step, the views leave nothing behind") {
    int opened = 0, closed = 0, calls = 0;
    auto source = [&](counted, int n) -> aio::async_generator<counted> {
        ++opened;
        auto close = [](std::reference_wrapper<int> c) -> aio::coro<> {
            ++c.get();
            co_await aio::sleep(0s);
        };
        co_await aio::defer(close, std::ref(closed));
        for (int i = 0; i < n; ++i) {
            co_await aio::sleep(1s);
            co_yield counted(i);
        }
    };
    auto call = [&](counted c) -> aio::coro<counted> {
        ++calls;
        auto leave = [](std::reference_wrapper<int> n) { --n.get(); };
        co_await aio::defer(leave, std::ref(calls));
        co_await aio::sleep(std::chrono::milliseconds(100 * c.value));
        co_return counted(c.value);
    };
    auto scenario = [&]() -> aio::coro<> {
        auto merged = co_await (views::merge(source(counted(), 2), source(counted(), 2)) | aio::to<std::vector>());
        EXPECT_EQ(merged.size(), 4u);
        auto mapped =
            co_await (source(counted(), 4) | views::concurrent(2, call) | views::enumerate | aio::to<std::vector>());
        EXPECT_EQ(mapped.size(), 4u);
        co_await aio::for_each(
            source(counted(), 4) | views::unordered_concurrent(2, call) | views::chunk(3), [](auto&) {});
        co_await (views::zip(source(counted(), 2), source(counted(), 3)) | views::take(1) | aio::to<std::vector>());
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(opened, closed);
        EXPECT_EQ(calls, 0);
        EXPECT_EQ(counted::alive.load(), 0);
    });
    EXPECT_GT(runs, 50u);
}

AIO_TEST("merge of a range gives the items of all as they come") {
    std::vector<aio::async_generator<int>> sources;
    for (int i = 1; i <= 3; ++i) sources.push_back(every(i * 2s, 2, i * 10));
    auto merged = co_await (views::merge(std::move(sources)) | aio::to<std::vector>());
    EXPECT_EQ(merged, (ints{10, 20, 11, 30, 21, 31}));
    std::vector<aio::async_generator<int>> none;
    EXPECT_EQ(co_await (views::merge(std::move(none)) | aio::to<std::vector>()), ints{});
}

AIO_TEST("merge of an lvalue range refers to its sources; closed, it closes those that it owns") {
    journal j;
    std::vector<aio::async_generator<int>> sources;
    sources.push_back(with_cleanup(j, "a"));
    sources.push_back(with_cleanup(j, "b"));
    {
        auto merged = views::merge(sources);
        co_await merged.next();
        co_await merged.aclose();
        EXPECT_EQ(j.text(), "");
        EXPECT_NE(co_await sources[1].next(), nullptr);
    }
    auto owned = views::merge(std::move(sources));
    co_await owned.next();
    co_await owned.aclose();
    EXPECT_EQ(j.text(), "b-closed a-closed");
}

AIO_TEST("merge of a range ends with the first error, and closes the others") {
    journal j;
    auto broken = []() -> aio::async_generator<int> {
        co_await aio::sleep(1s);
        co_yield 1;
        throw std::runtime_error("broken");
    };
    std::vector<aio::async_generator<int>> sources;
    sources.push_back(with_cleanup(j, "a"));
    sources.push_back(broken());
    int items = 0;
    std::string error;
    try {
        auto show = [&](int) -> aio::coro<> {
            ++items;
            co_await aio::sleep(400ms);
        };
        co_await aio::for_each(views::merge(std::move(sources)), show);
    } catch (const std::runtime_error& e) { error = e.what(); }
    EXPECT_EQ(error, "broken");
    EXPECT_GT(items, 1);
    EXPECT_EQ(j.text(), "a-closed");
}

}  // namespace
