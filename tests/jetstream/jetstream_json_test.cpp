// The JSON of NATS that json.hpp reads and writes, compared with nlohmann's.
#include "aio_test.hpp"

#include <jetstream/json.hpp>

#include <nlohmann/json.hpp>

#include <random>

using aio::detail::json_view;
using nlohmann::json;

namespace {

/// Whether a view tells the same of each value as the tree does.
bool same(json_view view, const json& tree) {
    if (tree.is_object()) {
        for (const auto& [name, value] : tree.items()) {
            if (!same(view[name], value)) return false;
        }
        return view.is_object() && !view["no such member"];
    }
    if (tree.is_array()) {
        std::size_t count = 0;
        bool all = true;
        view.each([&](json_view one) { return all = count < tree.size() && same(one, tree[count++]); });
        return view.is_array() && all && count == tree.size();
    }
    if (tree.is_string()) return view.is_string() && view.string() == tree.get<std::string>();
    if (tree.is_boolean()) return view.boolean(!tree.get<bool>()) == tree.get<bool>();
    if (tree.is_number_unsigned()) return view.number(std::uint64_t(0)) == tree.get<std::uint64_t>();
    if (tree.is_number_integer()) return view.number(std::int64_t(0)) == tree.get<std::int64_t>();
    return view && view.number(7) == 7 && view.string("otherwise") == "otherwise";
}

const std::string info =
    R"( {"type":"io.nats.jetstream.api.v1.stream_info_response", "config":{"subjects":["aio.queue.a.\u003e"],)"
    R"("max_msgs":-1,"duplicate_window":120000000000,"sealed":false, "none":null,"empty":{},"nothing":[ ]} ,)"
    R"("state":{"messages":18446744073709551615,"rate":-1.5e+3},"text":"a\"\\\/\b\f\n\r\t\u00e9\u20ac é"} )";

}  // namespace

PLAIN_TEST("a view reads what a server says as nlohmann's json does") {
    const json_view view = json_view::of(info);
    EXPECT_TRUE(same(view, json::parse(info)));
    EXPECT_EQ(view["config"]["max_msgs"].number(0), -1);
    EXPECT_TRUE(view["config"]["subjects"].is_only("aio.queue.a.>"));
    EXPECT_FALSE(view["config"]["nothing"].is_only(""));
    EXPECT_FALSE(json_view::of(R"(["a","a"])").is_only("a"));
    // What is missing, or of another type, is what the caller says.
    EXPECT_EQ(view["state"]["no"]["such"].number(5), 5);
    EXPECT_EQ(view["text"].number(5), 5);
    EXPECT_EQ(view["state"]["messages"].number(std::int64_t(5)), 5);  // it is too large
    EXPECT_EQ(view["state"]["rate"].number(5), 5);
    EXPECT_TRUE(view["text"].boolean(true));
    EXPECT_EQ(json_view::of(R"("\ud83d\ude00")").string(), "😀");
    EXPECT_FALSE(json_view::of(R"("\ud83d")"));  // half of a pair
}

PLAIN_TEST("a view takes what nlohmann's json takes, and refuses what it refuses") {
    for (const char* text :
        {"", " ", "1", "-", "01", "-0", "1.", "1.5", "1e", "1e5", "1E+5", "tru", "true", "null", "nul", "\"", "\"a",
            "\"\\x\"", "\"\\u12g4\"", "\"\\u12\"", "\"\n\"", "[", "[]", "[1,]", "[,1]", "[1 2]", "[1]]", "{", "{}",
            "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1 \"b\":2}", "{\"a\":1}x", "+1", "[}", "{]"}) {
        EXPECT_EQ(static_cast<bool>(json_view::of(text)), json::accept(text)) << text;
    }
    EXPECT_FALSE(json_view::of(std::string(100'000, '[')));
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    EXPECT_EQ(json_view::of(deep).text(), deep);  // it stays within its stack
    std::mt19937 random(1);
    for (int i = 0; i < 20'000; ++i) {
        std::string text = info;
        const std::size_t changes = random() % 3 + 1;
        for (std::size_t n = 0; n < changes; ++n) {
            constexpr std::string_view letters = "{}[]\",:\\u0123 nt";  // no e: numbers stay within their range
            const std::size_t at = random() % text.size();
            if (random() % 2 == 0) {
                text[at] = letters[random() % letters.size()];
            } else {
                text.erase(at, random() % 5);
            }
        }
        const json_view view = json_view::of(text);
        const json tree = json::parse(text, nullptr, false);
        EXPECT_EQ(static_cast<bool>(view), !tree.is_discarded()) << text;
    }
}

PLAIN_TEST("what is written is JSON, whatever bytes it has") {
    std::string every;
    for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
    const std::vector<std::string> texts{"", "plain", "\"quoted\\\"", "é€😀", every, "\xc0\xaf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xe2\x82", "\xf0\x9f\x98", "a\xff", "\xe0\x80\x80", "\xf0\x80\x80\x80"};
    for (const std::string& text : texts) {
        const std::string written = aio::detail::json_string(text);
        const json tree = json::parse(written);
        EXPECT_EQ(json_view::of(written).string(), tree.get<std::string>());
        const std::string replaced = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
        EXPECT_EQ(tree.get<std::string>().empty(), json::parse(replaced).get<std::string>().empty());
        if (text.find('\xff') == std::string::npos && text == json::parse(replaced).get<std::string>()) {
            EXPECT_EQ(tree.get<std::string>(), text);
        }
    }
    const std::string object = aio::detail::json_writer()
                                   .add("text", "a\"b")
                                   .add("number", std::int64_t(-5))
                                   .add("large", std::uint64_t(18446744073709551615U))
                                   .add("yes", true)
                                   .add_json("list", "[1]")
                                   .text();
    const json expected = {
        {"text", "a\"b"}, {"number", -5}, {"large", 18446744073709551615U}, {"yes", true}, {"list", json::array({1})}};
    EXPECT_EQ(json::parse(object), expected);
    EXPECT_EQ(aio::detail::json_writer().text(), "{}");
}

PLAIN_TEST("an object gets another value for a member, or a member more, and keeps the rest") {
    const auto with = [](const char* object) {
        return json::parse(json_with(json_view::of(object), "b", "[2]")).dump();
    };
    EXPECT_EQ(with(R"({"a":1,"b":{"b":3},"c":"x"})"), R"({"a":1,"b":[2],"c":"x"})");
    EXPECT_EQ(with(R"({ "a" : {"b":1} })"), R"({"a":{"b":1},"b":[2]})");
    EXPECT_EQ(with("{ }"), R"({"b":[2]})");
    EXPECT_EQ(with(""), R"({"b":[2]})");
}
