// Forms, multipart bodies and cookies, both ways.

#include "aio_test.hpp"

#include <aio/http.hpp>
#include <aio/http_json.hpp>

#include "http/access.hpp"
#include "http/app/date.hpp"
#include "http/app/media_type.hpp"
#include "http/app/multipart_parser.hpp"
#include "http/body.hpp"

#include <memory>

namespace {

using aio::http::headers;
using aio::http::multipart;
using aio::http::request;

request posted(std::string type, std::string body) {
    return request("POST", "/", headers("Content-Type", type), std::move(body));
}

template<class F>
int status_of(F fn) {
    try {
        fn();
    } catch (const aio::http::refusal& r) { return r.status(); }
    return 200;
}

template<class C>
aio::coro<int> awaited_status(C awaited) {
    try {
        co_await std::move(awaited);
    } catch (const aio::http::refusal& r) { co_return r.status(); }
    co_return 200;
}

constexpr const char* type = "multipart/form-data; boundary=XYZ";

std::string body_of(std::string middle) { return "--XYZ\r\n" + middle + "\r\n--XYZ--\r\n"; }
std::string part_of(std::string name, std::string body) {
    return "Content-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + body;
}

/// What the parser makes of a body in pieces of this size: "name=body;", and how it ends.
std::string parsed(std::string_view body, std::size_t piece, std::size_t max_header = 1000) {
    using event = aio::detail::multipart_parser::event;
    aio::detail::multipart_parser parser("XYZ", max_header);
    std::string all;
    try {
        for (;;) {
            switch (parser.next()) {
                case event::need_more:
                    if (body.empty()) parser.finish();
                    parser.feed(body.substr(0, piece));
                    body.remove_prefix(std::min(piece, body.size()));
                    break;
                case event::part:
                    all += parser.name() + (parser.filename() ? "(" + *parser.filename() + ")=" : "=");
                    break;
                case event::data: all += parser.data(); break;
                case event::part_end: all += ";"; break;
                case event::end: return all + "end";
            }
        }
    } catch (const aio::http::refusal& r) { return all + std::to_string(r.status()); }
}

/// A body that comes piece by piece, as from a connection.
class pieces_source : public aio::detail::http_body_source {
public:
    pieces_source(std::string body, std::size_t piece) : body_(std::move(body)), piece_(piece) {}
    aio::coro<std::string> next() override {
        co_await aio::sleep(1ms);
        std::string piece = body_.substr(0, piece_);
        body_.erase(0, piece_);
        co_return piece;
    }

private:
    std::string body_;
    std::size_t piece_;
};

request streamed(std::string body, std::size_t piece) {
    request r("POST", "/", headers("Content-Type", type));
    aio::detail::http_access::set_source(r, std::make_shared<pieces_source>(std::move(body), piece));
    return r;
}

}  // namespace

PLAIN_TEST("a form gives what a browser gives, and is read as it was written") {
    aio::http::form f("name", "J\xc3\xbcrgen & Co", "a=b", "1+1%", "empty", "");
    f.add("name", "again");
    EXPECT_EQ(f.body(), "name=J%C3%BCrgen+%26+Co&a%3Db=1%2B1%25&empty=&name=again");
    EXPECT_EQ(posted("application/x-www-form-urlencoded", f.body()).form(), f);
    const aio::http::form read =
        posted("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a=1&&b&=c&d=%zz&a=2&").form();
    EXPECT_EQ(read.size(), 5u);
    EXPECT_EQ(read.get_all("a"), (std::vector<std::string>{"1", "2"}));
    EXPECT_EQ(read.at("b"), "");
    EXPECT_EQ(read[""], "c");
    EXPECT_EQ(read["d"], "%zz");
    EXPECT_EQ(read.get("x"), std::nullopt);
    EXPECT_THROW(static_cast<void>(read.at("x")), std::out_of_range);
}

PLAIN_TEST("a form refuses another type, too many fields, and a body that was not read") {
    EXPECT_EQ(status_of([] { posted("text/plain", "a=b").form(); }), 415);
    EXPECT_EQ(status_of([] { posted("multipart/form-data; boundary=x", "").form(); }), 415);
    EXPECT_EQ(status_of([] { request("POST", "/").form(); }), 200);
    std::string many;
    for (int i = 0; i < 1001; ++i) many += "a&";
    EXPECT_EQ(status_of([&] { posted("application/x-www-form-urlencoded", many).form(); }), 413);
    EXPECT_EQ(status_of([&] { posted("application/x-www-form-urlencoded", many).form({.max_fields = 1001}); }), 200);
    EXPECT_THROW(streamed("a=b", 1).form(), std::logic_error);
}

PLAIN_TEST("a body that is not JSON is refused, and the client is told where it is wrong") {
    for (const std::string body : {"", "{", "[1,]", "\"\xff\"", "1e400"})
        EXPECT_EQ(status_of([&] { posted("application/json", body).json(); }), 400) << body;
    EXPECT_EQ(posted("application/json", "[1, 2]").json()[1], 2);
    try {
        posted("application/json", "{\"a\": 1,\n}").json();
        ADD_FAILURE() << "it was taken";
    } catch (const aio::http::refusal& r) {
        const std::string text = r.what();
        EXPECT_NE(text.find("the body is not JSON"), std::string::npos) << text;
        EXPECT_NE(text.find("line 2, column 1"), std::string::npos) << text;
    }
    try {
        posted("application/json", "\"caf\xe9\"").json();
        ADD_FAILURE() << "it was taken";
    } catch (const aio::http::refusal& r) {
        const std::string text = r.what();  // may be put into JSON, whatever the client has sent
        EXPECT_NE(text.find("\"caf?"), std::string::npos) << text;
        EXPECT_EQ(nlohmann::json(text).dump().find("\xe9"), std::string::npos);
    }
}

AIO_TEST("a multipart is read as it was written, all at once and piece by piece") {
    multipart m("title", "A \"cat\"\r\n", "empty", "");
    m.add_file("picture", "c\"a\r\nt.png", std::string("\x89PNG\r\n--\0\r\n", 11), "image/png");
    request r = posted(m.content_type(), m.body());
    const multipart read = co_await r.multipart();
    EXPECT_EQ(read.size(), 3u);
    EXPECT_EQ(read.get("title"), "A \"cat\"\r\n");
    EXPECT_EQ(read.get("empty"), "");
    EXPECT_EQ(read.get("picture"), std::nullopt) << "it is a file";
    AIO_REQUIRE(read.file("picture"));
    EXPECT_EQ(*read.file("picture")->filename, "c%22a%0D%0At.png") << "as browsers encode it";
    EXPECT_EQ(read.file("picture")->content_type, "image/png");
    EXPECT_EQ(read.file("picture")->body, std::string("\x89PNG\r\n--\0\r\n", 11));
    std::string pieces;
    auto stream = m.stream();
    while (auto piece = co_await stream.next()) { pieces += *piece; }
    EXPECT_EQ(pieces, m.body());
    EXPECT_NE(multipart().content_type(), multipart().content_type());
    EXPECT_THROW(m.add_file("x", "y", "z", "text/plain\r\nX: y"), std::invalid_argument);
}

AIO_TEST("a handler takes the parts while they come, and skips what it does not read") {
    const std::string body = body_of(part_of("a", "first") + "\r\n--XYZ\r\n" + part_of("b", std::string(1000, 'b')) +
        "\r\n--XYZ\r\nContent-Type: image/png\r\nContent-Disposition: form-data; name=\"c\"; "
        "filename=\"x.png\"\r\n\r\npng");
    for (std::size_t piece = 1; piece < 100; ++piece) {
        request r = streamed(body + "epilogue", piece);
        auto parts = r.parts();
        auto a = co_await parts.next();
        AIO_REQUIRE(a);
        EXPECT_EQ(a->name(), "a");
        EXPECT_EQ(a->content_type(), "text/plain");
        EXPECT_EQ(co_await a->text(), "first");
        EXPECT_THROW(static_cast<void>(a->text()), std::logic_error);
        auto b = co_await parts.next();
        EXPECT_EQ(b->name(), "b");
        auto left_behind = b->stream();
        co_await left_behind.next();
        auto c = co_await parts.next();
        EXPECT_EQ(c->filename(), "x.png");
        EXPECT_EQ(c->headers()["content-type"], "image/png");
        bool stale = false;
        try {
            co_await left_behind.next();
        } catch (const std::logic_error&) { stale = true; }
        EXPECT_TRUE(stale);
        std::string png;
        auto pieces = c->stream();
        while (auto more = co_await pieces.next()) { png += *more; }
        EXPECT_EQ(png, "png");
        EXPECT_FALSE(co_await parts.next());
    }
}

PLAIN_TEST("a boundary may straddle pieces at every byte, and what only looks like one is data") {
    const std::string tricky = "x\r\n--XY\r\n--XYZa\r\n--XYZ \t-\r\n--XYZ-\r\r\n\r\n--XY\n--XYZ\r\n-";
    const std::string body =
        "preamble\r\n" + body_of(part_of("a", tricky) + "\r\n--XYZ \t\r\n" + part_of("b", "")) + "epi\r\n--XYZ\r\n";
    const std::string expected = "a=" + tricky + ";b=;end";
    for (std::size_t piece = 1; piece <= body.size(); ++piece) EXPECT_EQ(parsed(body, piece), expected) << piece;
    EXPECT_EQ(parsed("--XYZ--", 1), "end") << "a form without fields";
}

PLAIN_TEST(
    "what other parsers have got wrong: bytes before a boundary, and boundaries that look like parts of others") {
    // A stray "\r" in an empty field (werkzeug#3285), a body that ends with "\r" (openwrt/luci#6282), the bare boundary
    // inside of a body (nodejs/undici#5561), the end boundary cut before its hyphens (HttpMultipartParser#31).
    for (const std::string value :
        {"", "\r", "\n", "\r\n", "\r\r", "-", "--", "\r\n-", "\r\n--", "XYZ", "--XYZ", "--XYZ--", "x--XYZ--\r\n"}) {
        const std::string body = body_of(part_of("a", value) + "\r\n--XYZ\r\n" + part_of("b", value));
        for (std::size_t piece = 1; piece <= body.size(); ++piece)
            EXPECT_EQ(parsed(body, piece), "a=" + value + ";b=" + value + ";end") << piece;
    }
    // A boundary that begins with hyphens itself (multipart-parser-c#20).
    const std::string hyphens = "multipart/form-data; boundary=------WebKitFormBoundaryABC";
    EXPECT_EQ(aio::detail::multipart_boundary(hyphens), "------WebKitFormBoundaryABC");
}

PLAIN_TEST("the work is linear in a body that is made to be searched again and again") {
    // Many line breaks (CVE-2023-46136 of werkzeug), or begins of boundaries, byte by byte.
    for (const char* repeated : {"\r", "\r\n", "\r\n--XY", "\r\n--XYZ\tx"}) {
        std::string value;
        while (value.size() < 300'000) value += repeated;
        const std::string body = body_of(part_of("a", value));
        const std::string got = parsed(body, 1);
        EXPECT_EQ(got.size(), value.size() + 6);
        EXPECT_EQ(parsed(body, 4096).size(), value.size() + 6);
    }
}

PLAIN_TEST("a multipart body that breaks the format is refused, in whatever pieces it comes") {
    const struct {
        std::string body;
        std::string outcome;
    } cases[] = {
        {"", "400"},
        {"no boundary at all", "400"},
        {"--XYZ", "400"},
        {"--XYZ\r\n", "400"},
        {"--XYZ\r\n\r\nno header\r\n--XYZ--", "400"},
        {"--XYZ\r\nX: y\r\n\r\nno name\r\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n\r\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n\r\n--XYZ--",
            "400"},
        {"--XYZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n\r\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition : form-data; name=a\r\n\r\n\r\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n\r\n--XYZ--", "400"},
        {"--XYZ\nContent-Disposition: form-data; name=a\n\n\n--XYZ--", "400"},
        {"--XYZ\r\nContent-Disposition: form-data; name=a\r\nX:\n\r\n\r\n--XYZ--", "400"},
        {body_of("Content-Transfer-Encoding: base64\r\n" + part_of("a", "YQ==")), "400"},
        {"--XYZ\r\n" + part_of("a", "cut"), "a=cut400"},
        {"--XYZ\r\n" + part_of("a", "cut\r\n--XYZ"), "a=cut\r\n--XYZ400"},
        {body_of("X: " + std::string(2000, 'x') + "\r\n" + part_of("a", "")), "413"},
        {body_of(part_of("a", "")).substr(0, 30) + std::string(5000, 'x'), "413"},
    };
    for (const auto& c : cases) {
        for (const std::size_t piece : {1u, 2u, 7u, 10000u}) {
            const std::string got = parsed(c.body, piece);
            // How much of a part that is cut is given before the error depends on the pieces.
            if (c.outcome.size() == 3) {
                EXPECT_EQ(got, c.outcome) << c.body.substr(0, 200);
            } else {
                EXPECT_TRUE(got.starts_with(c.outcome.substr(0, 5)) && got.ends_with("400")) << got;
            }
        }
    }
}

AIO_TEST("limits: parts, the size of a part, what is kept in memory") {
    std::string many;
    for (int i = 0; i < 5; ++i) many += "--XYZ\r\n" + part_of("n", "123456") + "\r\n";
    many += "--XYZ--";
    const auto with = [&](aio::http::multipart_options o) {
        auto run = [](request r, aio::http::multipart_options options) -> aio::coro<> {
            co_await r.multipart(options);
        };
        return awaited_status(run(posted(type, many), o));
    };
    EXPECT_EQ(co_await with({}), 200);
    EXPECT_EQ(co_await with({.max_parts = 5}), 200);
    EXPECT_EQ(co_await with({.max_parts = 4}), 413);
    EXPECT_EQ(co_await with({.max_header_size = 10}), 413);
    EXPECT_EQ(co_await with({.max_part_size = 6}), 200);
    EXPECT_EQ(co_await with({.max_part_size = 5}), 413);
    EXPECT_EQ(co_await with({.max_memory = 30}), 200);
    EXPECT_EQ(co_await with({.max_memory = 29}), 413);
    EXPECT_EQ(status_of([] { static_cast<void>(posted("text/plain", "").parts()); }), 415);
    for (const char* bad :
        {"multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a;boundary=b",
            "multipart/form-data; boundary=\"a", "multipart/form-data; boundary=a b c\"",
            "multipart/form-data; boundary=\"a \"", "multipart/form-data; boundary=a\xff"}) {
        EXPECT_EQ(status_of([&] { static_cast<void>(posted(bad, "").parts()); }), 400) << bad;
    }
    EXPECT_EQ(status_of([&] {
        static_cast<void>(posted("multipart/form-data; boundary=" + std::string(71, 'a'), "").parts());
    }),
        400);
    EXPECT_EQ(
        status_of([&] { static_cast<void>(posted("Multipart/Form-Data; charset=x; Boundary=\"a b\"", "").parts()); }),
        200);
}

PLAIN_TEST("file names: quotes, backslashes, UTF-8, and RFC 8187") {
    const auto name = [](std::string disposition) {
        return parsed(body_of("Content-Disposition: form-data; name=a; filename" + disposition + "\r\n\r\n"), 10000);
    };
    EXPECT_EQ(name("=\"C:\\dir\\f.txt\""), "a(C:\\dir\\f.txt)=;end");
    EXPECT_EQ(name("=\"a\\\"b\\\\c\""), "a(a\"b\\c)=;end");
    EXPECT_EQ(name("=\"\xc3\xbc; x=y\""), "a(\xc3\xbc; x=y)=;end");
    EXPECT_EQ(name("=\"\""), "a()=;end");
    EXPECT_EQ(name("*=utf-8''%e2%82%ac%20x; filename=\"plain\""), "a(\xe2\x82\xac x)=;end");
    EXPECT_EQ(name("*=latin-1''%fc"), "400");
    EXPECT_EQ(name("*=x"), "400");
}

PLAIN_TEST("cookies are read as browsers send them") {
    headers h("Cookie", "a=1; b=\"two\";c = x=y ; =nameless; valueless; a=2");
    h.add("cookie", "d=4");
    const aio::http::values cookies = request("GET", "/", h).cookies();
    EXPECT_EQ(cookies.get("a"), "1") << "the first one is the one of the more specific path";
    EXPECT_EQ(cookies.get("b"), "two");
    EXPECT_EQ(cookies.get("c"), "x=y");
    EXPECT_EQ(cookies.get("d"), "4");
    EXPECT_EQ(cookies.size(), 5u);
    EXPECT_EQ(request("GET", "/", h).cookies()["a"], "1");
    EXPECT_EQ(request("GET", "/").cookies().size(), 0u);
}

PLAIN_TEST("a cookie is set with its attributes, and nothing can be injected") {
    using aio::http::same_site;
    aio::http::response r;
    r.set_cookie("a", "1");
    EXPECT_EQ(r.headers()["Set-Cookie"], "a=1; Path=/; SameSite=Lax");
    r = {};
    r.set_cookie("__Host-id", "x",
        {.max_age = 1h,
            .expires = std::chrono::system_clock::time_point(784111777s),
            .secure = true,
            .http_only = true,
            .same_site = same_site::none,
            .partitioned = true});
    EXPECT_EQ(r.headers()["Set-Cookie"],
        "__Host-id=x; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=None; "
        "Partitioned");
    r = {};
    r.delete_cookie("a", {.path = "/x", .domain = "example.org", .same_site = same_site::unset});
    EXPECT_EQ(
        r.headers()["Set-Cookie"], "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Domain=example.org; Path=/x");
    const auto refused = [&](std::string_view name, std::string_view value, aio::http::cookie_options o = {}) {
        try {
            r.set_cookie(name, value, o);
        } catch (const std::invalid_argument&) { return true; }
        return false;
    };
    for (const char* value : {"a;Domain=evil", "a b", "a,b", "a\"b", "a\\b", "a\r\nX: y", "\xc3\xbc", "a\tb"})
        EXPECT_TRUE(refused("n", value)) << value;
    for (const char* name : {"", "a b", "a=b", "a;b", "\xc3\xbc"}) EXPECT_TRUE(refused(name, "v")) << name;
    EXPECT_TRUE(refused("n", std::string_view("a\0b", 3)));
    EXPECT_TRUE(refused("n", "v", {.path = "/;Secure"}));
    EXPECT_TRUE(refused("n", "v", {.path = "relative"}));
    EXPECT_TRUE(refused("n", "v", {.domain = "a;b"}));
    EXPECT_TRUE(refused("n", "v", {.same_site = same_site::none}));
    EXPECT_TRUE(refused("n", "v", {.partitioned = true}));
    EXPECT_TRUE(refused("__Secure-n", "v"));
    EXPECT_TRUE(refused("__host-n", "v", {.domain = "a.example", .secure = true}));
    EXPECT_TRUE(refused("__host-n", "v", {.path = "/x", .secure = true}));
}

PLAIN_TEST("a redirect encodes what no URL may have, and refuses what would split the answer") {
    using aio::http::response;
    EXPECT_EQ(response::redirect("/a?b=c#d").headers()["Location"], "/a?b=c#d");
    EXPECT_EQ(response::redirect("/a").status(), 302);
    EXPECT_EQ(
        response::redirect("https://example.org/\xc3\xbc b").headers()["Location"], "https://example.org/%C3%BC%20b");
    EXPECT_EQ(response::redirect("/\\evil.example").headers()["Location"], "/%5Cevil.example");
    EXPECT_EQ(response::redirect("/a%20b", 308).headers()["Location"], "/a%20b");
    EXPECT_THROW(response::redirect("/a\r\nX: y"), std::invalid_argument);
    EXPECT_THROW(response::redirect("/a", 200), std::invalid_argument);
    EXPECT_THROW(response::redirect("/a", 304), std::invalid_argument);
    EXPECT_THROW(aio::http::refusal(302), std::invalid_argument);
    EXPECT_STREQ(aio::http::refusal(404).what(), "Not Found");
}

PLAIN_TEST("dates of HTTP, in three forms") {
    using aio::detail::parse_http_date;
    EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    EXPECT_EQ(parse_http_date("Sun Nov  6 08:49:37 1994"), 784111777);
    EXPECT_EQ(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
    for (const char* bad :
        {"", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 ovD 1994 08:49:37 GMT", ",", "Sun ", "784111777"}) {
        EXPECT_EQ(parse_http_date(bad), std::nullopt) << bad;
    }
    EXPECT_EQ(
        aio::detail::http_date_of(std::chrono::system_clock::time_point(784111777s)), "Sun, 06 Nov 1994 08:49:37 GMT");
}
