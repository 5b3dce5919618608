#include <aio/exception_group.hpp>

#include "aio_test.hpp"

#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

namespace {

template<class E, class... Args>
std::exception_ptr made(Args&&... args) {
    return std::make_exception_ptr(E(std::forward<Args>(args)...));
}

struct no_std_exception {
    int code;
};

aio::exception_group nested() {
    aio::exception_group inner("inner", {made<std::out_of_range>("range"), made<std::runtime_error>("run")});
    return aio::exception_group("outer",
        {made<std::invalid_argument>("arg"), std::make_exception_ptr(inner),
            std::make_exception_ptr(no_std_exception{7})});
}

std::string what_of(const std::exception_ptr& e) {
    try {
        std::rethrow_exception(e);
    } catch (const aio::exception_group& eg) {
        std::string all = eg.message() + "(";
        for (const std::exception_ptr& each : eg.exceptions()) all += what_of(each) + " ";
        all.back() = ')';
        return all;
    } catch (const std::exception& x) { return x.what(); } catch (const no_std_exception& x) {
        return std::to_string(x.code);
    } catch (...) { return "?"; }
}
aio::exception_group as_group(const std::exception_ptr& e) {
    try {
        std::rethrow_exception(e);
    } catch (const aio::exception_group& group) { return group; }
}
std::string shape(const std::optional<aio::exception_group>& eg) {
    return eg ? what_of(std::make_exception_ptr(*eg)) : "nothing";
}

}  // namespace

PLAIN_TEST("a group needs exceptions, and none may be null") {
    EXPECT_THROW(aio::exception_group("empty", {}), std::invalid_argument);
    EXPECT_THROW(aio::exception_group("null", {nullptr}), std::invalid_argument);
}

PLAIN_TEST("a group has a message, its exceptions in order, and prints the whole tree") {
    const aio::exception_group eg = nested();
    EXPECT_EQ(eg.message(), "outer");
    AIO_REQUIRE(eg.exceptions().size() == 3);
    EXPECT_THROW(std::rethrow_exception(eg.exceptions()[0]), std::invalid_argument);
    const std::string text = eg.what();
    for (const char* part : {"outer", "arg", "inner", "range", "run", "3 sub-exceptions", "2 sub-exceptions"}) {
        EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
    }
    EXPECT_FALSE(eg.context());
}

PLAIN_TEST("split gives two groups of the same shape") {
    auto [logic, rest] = nested().split<std::logic_error>();
    EXPECT_EQ(shape(logic), "outer(arg inner(range))");
    EXPECT_EQ(shape(rest), "outer(inner(run) 7)");
    auto none = nested().split<std::system_error>();
    EXPECT_FALSE(none.matching);
    EXPECT_EQ(shape(none.rest), "outer(arg inner(range run) 7)");
    auto all = nested().split<no_std_exception>();
    EXPECT_EQ(shape(all.matching), "outer(7)");
}

PLAIN_TEST("split by a base of exception_group looks into nested groups, too") {
    aio::exception_group inner(
        "inner", {made<std::runtime_error>("run"), std::make_exception_ptr(no_std_exception{1})});
    aio::exception_group outer("outer", {std::make_exception_ptr(inner)});
    auto [matching, rest] = outer.split<std::exception>();
    EXPECT_EQ(shape(matching), "outer(inner(run))");
    EXPECT_EQ(shape(rest), "outer(inner(1))");
}

PLAIN_TEST("subgroup gives what matches, or nothing") {
    EXPECT_EQ(shape(nested().subgroup<std::runtime_error>()), "outer(inner(run))");
    EXPECT_EQ(nested().subgroup<std::bad_alloc>(), std::nullopt);
}

PLAIN_TEST("find gives the first that matches, in the tree's order") {
    const aio::exception_group eg = nested();
    const auto* first = eg.find<std::exception>();
    AIO_REQUIRE(first);
    EXPECT_STREQ(first->what(), "arg");
    const auto* run = eg.find<std::runtime_error>();
    AIO_REQUIRE(run);
    EXPECT_STREQ(run->what(), "run");
    EXPECT_EQ(eg.find<std::bad_alloc>(), nullptr);
    const auto* group = eg.find<aio::exception_group>();
    AIO_REQUIRE(group);
    EXPECT_EQ(group->message(), "inner");
}

PLAIN_TEST("handle calls for each error that matches, once, and gives the rest") {
    std::string seen;
    auto rest =
        nested().handle<std::logic_error>([&](const std::logic_error& e) { seen += std::string(e.what()) + " "; });
    EXPECT_EQ(seen, "arg range ");
    EXPECT_EQ(shape(rest), "outer(inner(run) 7)");
    seen.clear();
    rest = nested().handle<std::exception>([&](const std::exception& e) { seen += std::string(e.what()) + " "; });
    EXPECT_EQ(seen, "arg range run ");
    EXPECT_EQ(shape(rest), "outer(7)");
    int none = 0;
    rest = nested().handle<std::bad_alloc>([&](const std::bad_alloc&) { ++none; });
    EXPECT_EQ(none, 0);
    EXPECT_TRUE(rest);
    aio::exception_group only("only", {made<std::runtime_error>("x")});
    EXPECT_FALSE(only.handle<std::runtime_error>([](const std::runtime_error&) {}));
}

PLAIN_TEST("an error that handle's function throws leaves handle") {
    EXPECT_THROW(nested().handle<std::logic_error>([](const std::logic_error&) { throw 5; }), int);
}

PLAIN_TEST("rethrow_single throws the only error of the tree, or the group") {
    aio::exception_group inner("inner", {made<std::out_of_range>("range")});
    aio::exception_group one("one", {std::make_exception_ptr(inner)});
    EXPECT_THROW(one.rethrow_single(), std::out_of_range);
    std::string thrown;
    aio::exception_group two("two",
        {std::make_exception_ptr(
            aio::exception_group("inner", {made<std::out_of_range>("a"), made<std::out_of_range>("b")}))});
    try {
        two.rethrow_single();
    } catch (const aio::exception_group& eg) { thrown = eg.message(); }
    EXPECT_EQ(thrown, "two");
}

PLAIN_TEST("a group that was moved from is a group still") {
    aio::exception_group group("two", {made<std::runtime_error>("a"), made<std::runtime_error>("b")});
    const aio::exception_group other = std::move(group);
    EXPECT_STREQ(group.what(), other.what());
    EXPECT_EQ(group.exceptions().size(), 2u);
    EXPECT_EQ(group.message(), "two");
    try {
        throw std::move(group);
    } catch (const aio::exception_group& thrown) { EXPECT_EQ(thrown.message(), "two"); }
    EXPECT_NE(group.find<std::runtime_error>(), nullptr);
    static_assert(std::is_nothrow_move_constructible_v<aio::exception_group>);
}

PLAIN_TEST("a group is caught as std::exception, and its parts keep its context") {
    aio::exception_group eg("m", {made<std::runtime_error>("a"), made<std::logic_error>("b")},
        std::make_exception_ptr(aio::cancelled_error("c")));
    EXPECT_TRUE(eg.context());
    EXPECT_TRUE(eg.subgroup<std::runtime_error>()->context());
    try {
        throw eg;
    } catch (const std::exception& e) { EXPECT_NE(std::string(e.what()).find("2 sub-exceptions"), std::string::npos); }
}

namespace {

aio::exception_group nested_deep(std::size_t depth) {
    aio::exception_group group(
        "innermost", {made<std::out_of_range>("range"), std::make_exception_ptr(no_std_exception{7})});
    for (std::size_t i = 1; i < depth; ++i)
        group = aio::exception_group("g", {std::make_exception_ptr(std::move(group))});
    return group;
}

struct own_words : aio::exception_group {
    using exception_group::exception_group;
    const char* what() const noexcept override { return "own words"; }
};

}  // namespace

PLAIN_TEST(
    "fault C23: groups nested 100,000 deep are made, read, searched, split, handled and destroyed; each step costs the "
    "same") {
    constexpr std::size_t depth = 100'000;
    std::optional<aio::exception_group> group(nested_deep(depth));
    EXPECT_LT(std::string_view(group->what()).size(), 100'000u);
    EXPECT_TRUE(group->find<std::out_of_range>());
    EXPECT_EQ(group->find<std::bad_alloc>(), nullptr);
    auto parts = group->split<std::logic_error>();
    AIO_REQUIRE(parts.matching && parts.rest);
    EXPECT_TRUE(parts.matching->find<std::out_of_range>());
    EXPECT_TRUE(parts.rest->find<no_std_exception>());
    EXPECT_FALSE(parts.rest->find<std::out_of_range>());
    int handled = 0;
    const auto rest = group->handle<no_std_exception>([&](const no_std_exception&) { ++handled; });
    EXPECT_EQ(handled, 1);
    EXPECT_TRUE(rest);
    EXPECT_THROW(parts.matching->rethrow_single(), std::out_of_range);
    EXPECT_LT(aio::async_trace(std::make_exception_ptr(*group)).to_string().size(), 100'000u);
    group.reset();
}

PLAIN_TEST("fault C23: the text of a group is made when it is first asked for, once, and shared by its copies") {
    const aio::exception_group group = nested_deep(2);
    const aio::exception_group copy = group;
    const char* const text = copy.what();
    EXPECT_EQ(group.what(), text);
    EXPECT_STREQ(text,
        "g (1 sub-exception)\n  - aio::exception_group: innermost (2 sub-exceptions)\n"
        "      - std::out_of_range: range\n      - (anonymous namespace)::no_std_exception");
}

PLAIN_TEST(
    "fault C23: a group that is in others again and again has a text of bounded length, and its members' lines are "
    "indented") {
    auto same = made<std::runtime_error>("two\nlines");
    for (int i = 0; i < 40; ++i) same = std::make_exception_ptr(aio::exception_group("twice", {same, same}));
    const std::string text = as_group(same).what();
    EXPECT_LT(text.size(), 4'000'000u);
    EXPECT_NE(text.find("..."), std::string::npos);
    const aio::exception_group lines("two", {made<std::runtime_error>("two\nlines")});
    EXPECT_STREQ(lines.what(), "two (1 sub-exception)\n  - std::runtime_error: two\n    lines");
}

PLAIN_TEST(
    "fault C23: a derived group is asked for its own words, and derived groups nested deep do not overflow the stack") {
    const aio::exception_group one("one", {std::make_exception_ptr(own_words("x", {made<std::runtime_error>("y")}))});
    EXPECT_NE(std::string_view(one.what()).find("own words"), std::string_view::npos);
    struct derived : aio::exception_group {
        using exception_group::exception_group;
    };
    auto error = made<std::runtime_error>("innermost");
    for (int i = 0; i < 10'000; ++i) error = std::make_exception_ptr(derived("d", {error}));
    EXPECT_TRUE(std::string_view(as_group(error).what()).starts_with("d (1 sub-exception)"));
}

PLAIN_TEST("fault C23: threads that ask for the same text at once all get it") {
    const aio::exception_group group = nested_deep(5);
    std::vector<const char*> texts(8);
    {
        std::vector<std::thread> threads;
        for (auto& text : texts) threads.emplace_back([&] { text = group.what(); });
        for (auto& t : threads) t.join();
    }
    for (const char* text : texts) EXPECT_EQ(text, texts.front());
}
