// Files as responses: ranges, conditions, and what is never sent.

#include "aio_test.hpp"
#include "folder.hpp"

#include <aio/http.hpp>

#include "http/app/beneath.hpp"
#include "http/app/conditions.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using aio::http::headers;
using aio::http::request;
using aio::http::response;
using aio::http::router;
using aio::http::test_client;

const std::string digits = "0123456789";

/// "206 234 2-4/10": status, body and the bytes that Content-Range names.
aio::coro<std::string> ranged(
    const test_client& client, std::string range, std::string name = "", std::string value = "") {
    test_client c = client;
    headers fields("Range", range);
    if (!name.empty()) fields.add(name, value);
    const response r = co_await c.get("/f/digits.txt", {.headers = fields});
    std::string text = std::to_string(r.status()) + " " + r.text();
    if (auto where = r.headers().get("Content-Range")) text += " " + *where;
    co_return text;
}

aio::coro<int> status(const test_client& client, std::string url) {
    test_client c = client;
    const response r = co_await c.get(url, {.follow_redirects = false});
    co_return r.status();
}

/// A folder with files, and one beside it that must not be reached.
class site {
public:
    site() {
        namespace fs = std::filesystem;
        fs::create_directories(outer_ / "www/sub/empty");
        fs::create_directories(outer_ / "www/sub/.hidden");
        fs::create_directories(outer_ / "www-secret");
        aio_test::put(outer_ / "secret.txt", "secret");
        aio_test::put(outer_ / "www-secret/secret.txt", "secret");
        aio_test::put(outer_ / "www/digits.txt", digits);
        aio_test::put(outer_ / "www/index.html", "<root>");
        aio_test::put(outer_ / "www/sub/index.html", "<sub>");
        aio_test::put(outer_ / "www/sub/.hidden/x", "hidden");
        aio_test::put(outer_ / "www/.env", "secret");
        aio_test::put(outer_ / "www/a b\xc3\xbc.css", "css");
        aio_test::put(outer_ / "www/app.js", "plain js");
        aio_test::put(outer_ / "www/app.js.gz", "zipped js");
        fs::create_symlink("digits.txt", outer_ / "www/inside");
        fs::create_symlink("../secret.txt", outer_ / "www/outside");
        fs::create_symlink(outer_ / "secret.txt", outer_ / "www/absolute");
        fs::create_symlink("..", outer_ / "www/up");
        ::mkfifo((outer_ / "www/fifo").c_str(), 0600);
    }
    std::string www() const { return (outer_ / "www").string(); }
    std::filesystem::path operator/(const char* name) const { return outer_ / name; }

private:
    aio_test::folder outer_;
};

}  // namespace

AIO_REAL_TEST("a folder is served with types, validators and lengths, and HEAD has no body") {
    const site s;
    router app;
    app.files("/f", s.www(), {.cache_control = "max-age=60"});
    test_client c(app);
    const response r = co_await c.get("/f/digits.txt");
    EXPECT_EQ(r.status(), 200);
    EXPECT_EQ(r.text(), digits);
    EXPECT_EQ(r.headers()["Content-Type"], "text/plain; charset=utf-8");
    EXPECT_EQ(r.headers()["Accept-Ranges"], "bytes");
    EXPECT_EQ(r.headers()["Cache-Control"], "max-age=60");
    const response head = co_await c.head("/f/digits.txt");
    EXPECT_EQ(head.text(), "");
    EXPECT_EQ(head.headers()["Content-Length"], "10");
    EXPECT_EQ(head.headers()["ETag"], r.headers()["ETag"]);
    EXPECT_EQ((co_await c.get("/f/a%20b%C3%BC.css")).headers()["Content-Type"], "text/css; charset=utf-8");
    EXPECT_EQ((co_await c.get("/f/")).text(), "<root>");
    EXPECT_EQ((co_await c.get("/f")).text(), "<root>") << "it leads to the folder";
    EXPECT_EQ((co_await c.get("/f/sub")).text(), "<sub>");
    EXPECT_EQ((co_await c.get("/f/sub?x=1")).url(), "http://testserver/f/sub/?x=1");
    EXPECT_EQ((co_await c.post("/f/digits.txt", "")).status(), 405);
}

AIO_REAL_TEST("ranges: those that are there are sent, what cannot be is 416, and all else is ignored") {
    const site s;
    router app;
    app.files("/f", s.www());
    const test_client c(app);
    EXPECT_EQ(co_await ranged(c, "bytes=2-4"), "206 234 bytes 2-4/10");
    EXPECT_EQ(co_await ranged(c, "bytes=0-0"), "206 0 bytes 0-0/10");
    EXPECT_EQ(co_await ranged(c, "bytes=7-"), "206 789 bytes 7-9/10");
    EXPECT_EQ(co_await ranged(c, "bytes=-3"), "206 789 bytes 7-9/10");
    EXPECT_EQ(co_await ranged(c, "bytes=-30"), "206 0123456789 bytes 0-9/10");
    EXPECT_EQ(co_await ranged(c, "bytes=5-99999999999999999999999"), "206 56789 bytes 5-9/10");
    EXPECT_EQ(co_await ranged(c, "Bytes = 2-4"), "206 234 bytes 2-4/10");
    EXPECT_EQ(co_await ranged(c, "bytes=10-"), "416 Range Not Satisfiable\n bytes */10");
    EXPECT_EQ(co_await ranged(c, "bytes=-0"), "416 Range Not Satisfiable\n bytes */10");
    EXPECT_EQ(co_await ranged(c, "bytes=99999999999999999999999-"), "416 Range Not Satisfiable\n bytes */10");
    for (const char* ignored :
        {"bytes=4-2", "bytes=a-b", "bytes=-", "bytes=", "bytes", "items=2-4", "bytes=2-4,x", "bytes=,", "bytes=2-4-5",
            "bytes=+2-4", "bytes=2 - 4", "bytes=--1", "bytes=0x1-2", "bytes=5-4", "bytes=0--1", "bytes=0-1,5-4", ""}) {
        EXPECT_EQ(co_await ranged(c, ignored), "200 0123456789") << ignored;
    }
    std::string many = "bytes=0-0";
    for (int i = 0; i < 10'000; ++i) many += ",0-";
    EXPECT_EQ(co_await ranged(c, many), "200 0123456789") << "overlapping ranges cost nothing";
    test_client other(app);
    const headers range("Range", "bytes=2-4");
    EXPECT_EQ((co_await other.head("/f/digits.txt", {.headers = range})).status(), 200);
}

namespace {

/// The parts of a body, each as "content-type|content-range|bytes;".
std::string parts_of(const response& r) {
    const std::string type = r.headers()["Content-Type"];
    const std::string begin = "multipart/byteranges; boundary=";
    if (!type.starts_with(begin)) return "no multipart: " + type;
    const std::string line = "\r\n--" + type.substr(begin.size());
    std::string rest = "\r\n" + r.text(), all;
    for (;;) {
        if (!rest.starts_with(line)) return all + "(no boundary)";
        rest.erase(0, line.size());
        if (rest == "--\r\n") return all;
        std::size_t end = rest.find("\r\n\r\n");
        const std::string head = rest.substr(0, end) + "\r\n";
        for (const std::string name : {"\r\nContent-Type: ", "\r\nContent-Range: "}) {
            const std::size_t at = head.find(name) + name.size();
            all += head.substr(at, head.find("\r\n", at) - at) + "|";
        }
        rest.erase(0, end + 4);
        end = std::min(rest.find(line), rest.size());
        all += rest.substr(0, end) + ";";
        rest.erase(0, end);
    }
}

}  // namespace

AIO_REAL_TEST("several ranges come as the parts of one body, in the order of the request") {
    const site s;
    router app;
    app.files("/f", s.www());
    app.get("/typed", [&s](const request& r) {
        return response(response::file(s.www() + "/digits.txt", r, {.content_type = "text/x"}));
    });
    test_client c(app);
    const headers two("Range", "bytes=6-7, 2-4");
    const response r = co_await c.get("/typed", {.headers = two});
    EXPECT_EQ(r.status(), 206);
    EXPECT_EQ(parts_of(r), "text/x|bytes 6-7/10|67;text/x|bytes 2-4/10|234;");
    EXPECT_FALSE(r.headers().contains("Content-Range"));
    EXPECT_EQ(r.headers()["Content-Length"], std::to_string(r.text().size()));
    EXPECT_EQ(r.headers()["Accept-Ranges"], "bytes");
    EXPECT_EQ(co_await ranged(c, "bytes=2-4,90-99"), "206 234 bytes 2-4/10") << "one that is there needs no parts";
    EXPECT_EQ(co_await ranged(c, "bytes=10-,90-99"), "416 Range Not Satisfiable\n bytes */10");
    const headers open("Range", "bytes=0-0,,-1");
    EXPECT_EQ(parts_of(co_await c.get("/typed", {.headers = open})), "text/x|bytes 0-0/10|0;text/x|bytes 9-9/10|9;");
    headers fields("Range", "bytes=0-0");
    fields.add("Range", "8-8");
    EXPECT_EQ(parts_of(co_await c.get("/typed", {.headers = fields})), "text/x|bytes 0-0/10|0;text/x|bytes 8-8/10|8;");
}

AIO_REAL_TEST("ranges that are more work than the whole file are answered with the whole file") {
    const site s;
    router app;
    app.files("/f", s.www());
    const test_client c(app);
    EXPECT_EQ(co_await ranged(c, "bytes=0-5,4-9"), "200 0123456789") << "more bytes than the file has";
    std::string many = "bytes=0-0";
    for (int i = 0; i < 32; ++i) many += ",90-";
    EXPECT_EQ(co_await ranged(c, many), "200 0123456789");
    EXPECT_EQ(co_await ranged(c, "bytes=0-18446744073709551615,1-18446744073709551615"), "200 0123456789");
}

AIO_REAL_TEST("several ranges of a large file are read while they are sent, and If-Range guards them") {
    const site s;
    std::string large;
    for (int i = 0; i < 100'000; ++i) large += std::to_string(100'000 + i) + "\n";
    aio_test::put(s / "www/large.txt", large);
    router app;
    app.files("/f", s.www(), {.precompressed = true});
    test_client c(app);
    headers fields("Range", "bytes=0-299999,400000-699998");
    response r = co_await c.get("/f/large.txt", {.headers = fields});
    EXPECT_EQ(r.status(), 206);
    EXPECT_EQ(parts_of(r),
        "text/plain; charset=utf-8|bytes 0-299999/700000|" + large.substr(0, 300'000) +
            ";text/plain; charset=utf-8|bytes 400000-699998/700000|" + large.substr(400'000, 299'999) + ";");
    EXPECT_EQ(r.headers()["Content-Length"], std::to_string(r.text().size()));
    fields.set("If-Range", "\"other\"");
    r = co_await c.get("/f/large.txt", {.headers = fields});
    EXPECT_EQ(r.status(), 200);
    EXPECT_EQ(r.text().size(), large.size());
    const headers zipped("Range", "bytes=0-0,2-2", "Accept-Encoding", "gzip");
    r = co_await c.get("/f/app.js", {.headers = zipped});
    EXPECT_EQ(r.status(), 200) << "parts of a compressed twin";
    EXPECT_EQ(r.text(), "zipped js");
}

AIO_REAL_TEST("conditions: what is not modified is 304, what is not as expected 412, and If-Range guards a range") {
    const site s;
    const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 500}};
    ::utimensat(AT_FDCWD, (s / "www/digits.txt").c_str(), times, 0);
    router app;
    app.files("/f", s.www(), {.precompressed = true, .cache_control = "no-cache"});
    test_client c(app);
    const std::string tag = (co_await c.get("/f/digits.txt")).headers()["ETag"];
    const std::string date = "Sun, 09 Sep 2001 01:46:40 GMT";
    EXPECT_EQ((co_await c.get("/f/digits.txt")).headers()["Last-Modified"], date);
    const auto with = [&c](std::string name, std::string value, std::string name_2 = "X",
                          std::string value_2 = "") -> aio::coro<int> {
        const headers fields(name, value, name_2, value_2);
        const response r = co_await c.get("/f/digits.txt", {.headers = fields});
        EXPECT_EQ(r.status() == 304, !r.headers().contains("Content-Type"));
        EXPECT_TRUE(r.headers().contains("ETag"));
        EXPECT_EQ(r.headers()["Vary"], "Accept-Encoding");
        EXPECT_EQ(r.headers()["Cache-Control"], "no-cache");
        co_return r.status();
    };
    EXPECT_EQ(co_await with("If-None-Match", tag), 304);
    EXPECT_EQ(co_await with("If-None-Match", "W/" + tag), 304);
    EXPECT_EQ(co_await with("If-None-Match", "\"a,b\" , " + tag), 304);
    EXPECT_EQ(co_await with("If-None-Match", "*"), 304);
    EXPECT_EQ(co_await with("If-None-Match", "\"other\""), 200);
    EXPECT_EQ(co_await with("If-None-Match", tag.substr(1)), 200);
    EXPECT_EQ(co_await with("If-Modified-Since", date), 304);
    EXPECT_EQ(co_await with("If-Modified-Since", "Sun, 09 Sep 2001 01:46:39 GMT"), 200);
    EXPECT_EQ(co_await with("If-Modified-Since", "yesterday"), 200);
    EXPECT_EQ(co_await with("If-None-Match", "\"other\"", "If-Modified-Since", date), 200) << "the tag decides";
    EXPECT_EQ(co_await with("If-Match", tag), 200);
    EXPECT_EQ(co_await with("If-Match", "*"), 200);
    EXPECT_EQ(co_await with("If-Unmodified-Since", date), 200);
    const auto broken = [&c](std::string name, std::string value) -> aio::coro<int> {
        const headers fields(name, value);
        const response r = co_await c.get("/f/digits.txt", {.headers = fields});
        co_return r.status();
    };
    EXPECT_EQ(co_await broken("If-Match", "W/" + tag), 412);
    EXPECT_EQ(co_await broken("If-Match", "\"other\""), 412);
    EXPECT_EQ(co_await broken("If-Unmodified-Since", "Sun, 09 Sep 2001 01:46:39 GMT"), 412);
    EXPECT_EQ(co_await ranged(c, "bytes=2-4", "If-Range", tag), "206 234 bytes 2-4/10");
    EXPECT_EQ(co_await ranged(c, "bytes=2-4", "If-Range", date), "206 234 bytes 2-4/10");
    EXPECT_EQ(co_await ranged(c, "bytes=2-4", "If-Range", "W/" + tag), "200 0123456789");
    EXPECT_EQ(co_await ranged(c, "bytes=2-4", "If-Range", "\"other\""), "200 0123456789");
    EXPECT_EQ(co_await ranged(c, "bytes=2-4", "If-Range", "Sun, 09 Sep 2001 01:46:41 GMT"), "200 0123456789");
}

AIO_REAL_TEST("nothing outside of the folder is sent, whatever the path says and wherever links lead") {
    const site s;
    router app;
    app.files("/f", s.www());
    app.files("/", s.www());
    const test_client c(app);
    EXPECT_EQ(co_await status(c, "/f/inside"), 200) << "a link that stays inside";
    for (const char* path : {"/f/../secret.txt", "/f/%2e%2e/secret.txt", "/f/..%2fsecret.txt", "/f/%2e%2e%2fsecret.txt",
             "/f/sub/../../secret.txt", "/f/../www-secret/secret.txt", "/f/outside", "/f/absolute", "/f/up/secret.txt",
             "/f/up/www/digits.txt", "/f//etc/passwd", "/f/%2fetc/passwd", "/f/./digits.txt", "/f/sub//index.html",
             "/f/.env", "/f/%2eenv", "/f/sub/.hidden/x", "/f/digits.txt%00.png", "/f/%00", "/f/fifo", "/f/digits.txt/",
             "/f/sub/empty/", "/f/missing", "/f/%5c..%5csecret.txt", "/f/sub%2findex.html", "/../secret.txt",
             "//etc/passwd", "//evil.example/%2e%2e", "/f/%252e%252e/secret.txt"}) {
        EXPECT_EQ(co_await status(c, path), 404) << path;
    }
    const std::string too_long = "/f/" + std::string(300, 'x');
    EXPECT_EQ(co_await status(c, too_long), 404);
    router open;
    open.files("/f", s.www(), {.dot_files = true, .index = {}});
    const test_client o(open);
    EXPECT_EQ(co_await status(o, "/f/sub/.hidden/x"), 200);
    EXPECT_EQ(co_await status(o, "/f/../secret.txt"), 404);
    EXPECT_EQ(co_await status(o, "/f/sub"), 404) << "folders have no index";
    EXPECT_EQ(co_await status(o, "/f/sub/"), 404);
    EXPECT_THROW(open.files("/g", s.www() + "/missing"), std::system_error);
    EXPECT_THROW(open.files("/g", s.www() + "/digits.txt"), std::system_error);
}

AIO_REAL_TEST("a redirect to a folder never leads to another host") {
    const site s;
    std::filesystem::create_directories(s / "www/evil.example");
    router app;
    app.files("/", s.www());
    test_client c(app);
    for (const char* path : {"//evil.example", "///evil.example", "/%2fevil.example", "/%5cevil.example"}) {
        EXPECT_EQ(co_await status(c, path), 404) << path;
    }
    const response r = co_await c.get("/evil.example?a=//b", {.follow_redirects = false});
    EXPECT_EQ(r.status(), 301);
    EXPECT_EQ(r.headers()["Location"], "./evil.example/?a=//b");
}

PLAIN_TEST("without openat2 the folder is walked name by name, and no link is followed") {
    const site s;
    const aio::descriptor folder(::open(s.www().c_str(), O_PATH | O_DIRECTORY));
    for (const bool by_kernel : {true, false}) {
        const auto opens = [&](const char* path) {
            return static_cast<bool>(aio::detail::open_beneath(folder.get(), path, by_kernel));
        };
        EXPECT_TRUE(opens("digits.txt"));
        EXPECT_TRUE(opens("sub/index.html"));
        EXPECT_EQ(opens("inside"), by_kernel);
        for (const char* path : {"../secret.txt", "sub/../../secret.txt", "outside", "absolute", "up/secret.txt",
                 "/etc/passwd", "up", "", "missing/x"}) {
            EXPECT_FALSE(opens(path) && std::string(path) != "up") << path;
        }
    }
    const std::size_t before = aio_test::open_descriptors();
    static_cast<void>(aio::detail::open_beneath(folder.get(), "sub/.hidden/x", false));
    EXPECT_EQ(aio_test::open_descriptors(), before);
}

AIO_REAL_TEST("a compressed twin is sent to who takes it") {
    const site s;
    router app;
    app.files("/f", s.www(), {.precompressed = true});
    test_client c(app);
    const headers gzip("Accept-Encoding", "br, gzip");
    const headers none("Accept-Encoding", "gzip;q=0, *;q=0.5");
    response r = co_await c.get("/f/app.js", {.headers = gzip});
    EXPECT_EQ(r.text(), "zipped js");
    EXPECT_EQ(r.headers()["Content-Encoding"], "gzip");
    EXPECT_EQ(r.headers()["Content-Type"], "text/javascript; charset=utf-8");
    EXPECT_EQ(r.headers()["Vary"], "Accept-Encoding");
    const std::string tag = r.headers()["ETag"];
    r = co_await c.get("/f/app.js", {.headers = none});
    EXPECT_EQ(r.text(), "plain js");
    EXPECT_NE(r.headers()["ETag"], tag);
    EXPECT_EQ(r.headers()["Vary"], "Accept-Encoding");
    EXPECT_EQ((co_await c.get("/f/digits.txt", {.headers = gzip})).text(), digits);
}

AIO_REAL_TEST("a compressed twin that is a link out of the folder is not sent") {
    // CVE-2024-42367 of aiohttp: the check of the file was not made for its compressed variant.
    const site s;
    std::filesystem::create_symlink("../secret.txt", s / "www/digits.txt.gz");
    router app;
    app.files("/f", s.www(), {.precompressed = true});
    test_client c(app);
    const headers gzip("Accept-Encoding", "gzip");
    const response r = co_await c.get("/f/digits.txt", {.headers = gzip});
    EXPECT_EQ(r.text(), digits);
    EXPECT_FALSE(r.headers().contains("Content-Encoding"));
}

AIO_REAL_TEST("response::file sends a file of ours, by name or as a download, small and large") {
    const aio_test::folder folder;
    std::string large;
    for (int i = 0; i < 100'000; ++i) large += std::to_string(i) + ",";
    aio_test::put(folder / "large.csv", large);
    aio_test::put(folder / "small", "small");
    aio_test::put(folder / "empty", "");
    const std::string path = (folder / "").string();
    router app;
    app.get("/large", [&](const request& r) -> aio::coro<response> {
        co_return co_await response::file(path + "large.csv", r, {.download_name = "B\xc3\xbc\"cher.csv"});
    });
    app.get("/plain/{name}", [&](const request& r) -> response {
        return response::file(path + r.param("name"), r, {.content_type = "x/y"});
    });
    app.get("/awaited/{name}", [&](const request& r) { return response::file(path + r.param("name"), r); });
    test_client c(app);
    response r = co_await c.get("/large");
    EXPECT_EQ(r.text(), large);
    EXPECT_EQ(r.headers()["Content-Length"], std::to_string(large.size()));
    EXPECT_EQ(r.headers()["Content-Disposition"],
        "attachment; filename=\"B___cher.csv\"; filename*=UTF-8''B%C3%BC%22cher.csv");
    const headers range("Range", "bytes=100-300099");
    r = co_await c.get("/large", {.headers = range});
    EXPECT_EQ(r.status(), 206);
    EXPECT_EQ(r.text(), large.substr(100, 300'000));
    app.post("/report", [&](const request& r_) { return response::file(path + "large.csv", r_); });
    EXPECT_EQ((co_await c.post("/report", "", {.headers = range})).status(), 200) << "ranges are for GET";
    r = co_await c.get("/plain/small");
    EXPECT_EQ(r.text(), "small");
    EXPECT_EQ(r.headers()["Content-Type"], "x/y");
    EXPECT_EQ((co_await c.get("/awaited/empty")).status(), 200);
    const headers first("Range", "bytes=0-");
    EXPECT_EQ((co_await c.get("/awaited/empty", {.headers = first})).status(), 416);
    EXPECT_EQ((co_await c.get("/awaited/missing")).status(), 404);
    const std::size_t before = aio_test::open_descriptors();
    for (int i = 0; i < 20; ++i) co_await c.head("/large");
    EXPECT_TRUE(aio_test::descriptors_come_to(before));
}
