// What stands above the HTTP engines, through a real server, with curl and Python as clients.

#include "aio_test.hpp"
#include "folder.hpp"
#include "http_raw.hpp"
#include "other_program.hpp"

#include <aio/http.hpp>

namespace {

using aio::http::headers;
using aio::http::request;
using aio::http::response;
using aio::http::router;

/// The output of curl.
aio::coro<std::string> output_of_curl(std::vector<std::string> options, std::string url) {
    std::vector<std::string> argv = {"curl", "-sS", "--path-as-is", "--max-time", "30"};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.push_back(std::move(url));
    aio_test::other_program program(argv);
    co_return co_await program.rest();
}

/// The output of curl with these options, for a path of a server.
template<class... Option>
aio::coro<std::string> curl(int port, const std::string& path, Option... options) {
    std::vector<std::string> all{std::string(options)...};
    return output_of_curl(std::move(all), "http://127.0.0.1:" + std::to_string(port) + path);
}

aio::coro<response> take_upload(request r) {
    std::string told;
    auto parts = r.parts();
    while (auto part = co_await parts.next()) {
        std::size_t size = 0;
        std::uint32_t sum = 0;
        auto pieces = part->stream();
        while (auto piece = co_await pieces.next()) {
            size += piece->size();
            for (const char c : *piece) sum = sum * 31 + static_cast<unsigned char>(c);
        }
        told += part->name() + " " + part->filename().value_or("-") + " " + part->content_type() + " " +
            std::to_string(size) + " " + std::to_string(sum) + "\n";
    }
    co_return response(200, told);
}

}  // namespace

AIO_REAL_TEST("curl: a folder, ranges, validators and compression") {
    const aio_test::folder folder;
    std::string large;
    for (int i = 0; i < 300'000; ++i) large += std::to_string(i) + "\n";
    aio_test::put(folder / "large.txt", large);
    aio_test::put(folder / "small.txt", "0123456789");
    router app;
    app.use(aio::http::compress());
    app.files("/f", (folder / "").string());
    auto server = co_await aio::http::start_server(app, "127.0.0.1", 0);
    const int port = server.port();
    EXPECT_TRUE(co_await curl(port, "/f/large.txt") == large) << "sent from the file";
    EXPECT_TRUE(co_await curl(port, "/f/large.txt", "--compressed") == large) << "compressed while it is read";
    EXPECT_TRUE(co_await curl(port, "/f/large.txt", "--http1.0", "--compressed") == large);
    EXPECT_TRUE(co_await curl(port, "/f/large.txt", "-r", "1000000-") == large.substr(1'000'000));
    EXPECT_EQ(co_await curl(port, "/f/small.txt", "-r", "-3"), "789");
    const std::string head = co_await curl(port, "/f/large.txt", "-I");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n")) << head;
    EXPECT_NE(head.find("Content-Length: " + std::to_string(large.size()) + "\r\n"), head.npos) << head;
    const std::string status = "%{http_code} %{size_download}";
    const std::string tags = (folder / "tags").string();
    EXPECT_EQ(co_await curl(port, "/f/small.txt", "--etag-save", tags), "0123456789");
    EXPECT_EQ(co_await curl(port, "/f/small.txt", "--etag-compare", tags, "-w", status), "304 0");
    EXPECT_EQ(co_await curl(port, "/f/small.txt", "-z", (folder / "small.txt").string(), "-w", status), "304 0");
    EXPECT_EQ(co_await curl(port, "/f/small.txt", "-r", "10-", "-o", "/dev/null", "-w", "%{http_code}"), "416");
    for (const char* path : {"/f/../../etc/passwd", "/f/..%2f..%2fetc/passwd", "//etc/passwd", "/f//etc/passwd"})
        EXPECT_EQ(co_await curl(port, path, "-o", "/dev/null", "-w", "%{http_code}"), "404") << path;
    co_await server.drain(10s);
}

AIO_REAL_TEST("curl: files are uploaded in parts, whatever their size and names") {
    const aio_test::folder folder;
    std::string large;
    while (large.size() < 5'000'000) large += "\r\n--" + std::to_string(large.size());
    std::uint32_t sum = 0;
    for (const char c : large) sum = sum * 31 + static_cast<unsigned char>(c);
    aio_test::put(folder / "large.bin", large);
    aio_test::put(folder / "empty", "");
    router app;
    app.post("/up", aio::http::unbuffered(take_upload));
    auto server = co_await aio::http::start_server(app, "127.0.0.1", 0);
    const std::string path = (folder / "").string();
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/up";
    const std::vector<std::string> options = {"--form-string", "title=a; b", "-F",
        "file=@" + path + "large.bin;filename=\"b\xc3\xbc \\\"x\\\".bin\"", "-F", "none=@" + path + "empty;type=x/y"};
    const std::string told = co_await output_of_curl(options, url);
    EXPECT_EQ(told,
        "title - text/plain 4 2947516\nfile b\xc3\xbc %22x%22.bin application/octet-stream " +
            std::to_string(large.size()) + " " + std::to_string(sum) + "\nnone empty x/y 0 0\n");
    std::vector<std::string> bad = {
        "-H", "Content-Type: multipart/form-data; boundary=x", "-d", "no parts", "-w", "%{http_code}"};
    EXPECT_EQ(
        co_await output_of_curl(bad, url), "the multipart body is malformed: it ends before its last boundary\n400");
    co_await server.drain(10s);
}

AIO_REAL_TEST("Python: our forms and cookies are what its parsers read") {
    router app;
    app.get("/set", [] {
        response r(200, "set");
        r.set_cookie("a", "1", {.max_age = 1h});
        r.set_cookie("b", "x=y", {.path = "/deep", .http_only = true});
        return r;
    });
    app.get("/deep/show", [](const request& r) { return response(200, r.headers()["Cookie"]); });
    const aio::http::multipart form = [] {
        aio::http::multipart m("title", "J\xc3\xbcrgen");
        m.add_file("file", "a b.txt", "line\r\n--line\r\n", "text/plain");
        return m;
    }();
    app.get("/form", [&] { return response(200, form.body(), headers("Content-Type", form.content_type())); });
    auto server = co_await aio::http::start_server(app, "127.0.0.1", 0);
    auto python = aio_test::other_program::python(R"(
import urllib.request, http.cookiejar, email
base = 'http://127.0.0.1:)" +
        std::to_string(server.port()) + R"('
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
opener.open(base + '/set').read()
print(sorted(opener.open(base + '/deep/show').read().decode().split('; ')))
r = opener.open(base + '/form')
m = email.message_from_bytes(b'Content-Type: ' + r.headers['Content-Type'].encode() + b'\r\n\r\n' + r.read())
for p in m.get_payload():
    name = p.get_param('name', header='content-disposition')
    print(name, p.get_filename(), p.get_content_type(), p.get_payload(decode=True))
)");
    EXPECT_EQ(co_await python.rest(),
        "['a=1', 'b=x=y']\ntitle None text/plain b'J\\xc3\\xbcrgen'\nfile a b.txt text/plain "
        "b'line\\r\\n--line\\r\\n'\n");
    co_await server.drain(10s);
}

AIO_REAL_TEST("a client that goes away closes the source of its events, pings or not") {
    aio::event closed;
    const auto source = [&closed]() -> aio::async_generator<aio::http::event> {
        auto at_end = aio::finally([&closed] { closed.set(); });
        for (;;) {
            aio::http::event e;
            e.data = "tick";
            co_yield std::move(e);
            co_await aio::sleep(1ms);
        }
    };
    router app;
    app.get("/plain", [&] { return aio::http::events(source()); });
    app.get("/pinged", [&] { return aio::http::events(source(), {.ping = 1h}); });
    auto server = co_await aio::http::start_server(app, "127.0.0.1", 0);
    for (const std::string path : {"/plain", "/pinged"}) {
        auto c = co_await aio_test::raw_connect(static_cast<std::uint16_t>(server.port()));
        co_await c.write("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n");
        co_await c.read_until("data: tick\n\n");
        c.reset();
        co_await aio::wait_for(closed.wait(), 30s);
        closed.clear();
    }
    co_await server.drain(10s);
}
