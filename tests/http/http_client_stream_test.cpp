// Tests of bodies that stream through a session, both ways: open(), upload(), forms and multipart. They run on the real
// clock, because libcurl's clock is real.
#include "faulty_proxy.hpp"
#include "folder.hpp"
#include "http_raw.hpp"
#include "http_scripts.hpp"

#include <aio/event.hpp>
#include <aio/gather.hpp>
#include <aio/http.hpp>
#include <aio/queue.hpp>
#include <aio/testing.hpp>
#include <aio/timeout.hpp>
#include <aio/with.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

aio::async_generator<std::string> pieces_of(int count, std::string piece) {
    for (int i = 0; i < count; ++i) co_yield std::string(piece);
}

int generators = 0;
struct counts_generators {
    counts_generators() { ++generators; }
    ~counts_generators() { --generators; }
    counts_generators(const counts_generators&) = delete;
    counts_generators& operator=(const counts_generators&) = delete;
};
aio::async_generator<std::string> endless() {
    const counts_generators counted;
    for (;;) co_yield std::string(10'000, 'x');
}
aio::async_generator<std::string> gives_one_and_waits() {
    const counts_generators counted;
    co_yield std::string("first");
    co_await aio::sleep_forever();
}
aio::async_generator<std::string> throws_after_one() {
    co_yield std::string("first");
    throw std::runtime_error("the generator has failed");
}

/// Reads a request whose body comes in chunks, and gives it without them.
aio::coro<std::string> read_chunks(raw_connection& c) {
    std::string body;
    for (;;) {
        const std::string line = co_await c.read_until("\r\n");
        const std::size_t size = line.empty() ? 0 : std::stoul(line, nullptr, 16);
        if (size == 0) {
            co_await c.read_until("\r\n");
            co_return body;
        }
        body += (co_await c.read_exactly(size + 2)).substr(0, size);
    }
}
aio::coro<> answers_with_the_chunks(raw_connection c) {
    for (;;) {
        const std::string head = co_await c.read_until("\r\n\r\n");
        if (head.empty()) co_return;
        if (!contains(head, "Transfer-Encoding: chunked")) {
            co_await c.write(answer("no chunks: " + head));
            co_return;
        }
        const std::string body = co_await read_chunks(c);
        co_await c.write(answer(body));
    }
}

/// Sends each chunk back as it comes.
aio::coro<> sends_chunks_back(raw_connection c) {
    for (;;) {
        const std::string head = co_await c.read_until("\r\n\r\n");
        if (head.empty()) co_return;
        co_await c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (;;) {
            std::string chunk = co_await c.read_until("\r\n");
            if (chunk.empty()) co_return;
            const std::size_t size = std::stoul(chunk, nullptr, 16);
            chunk += co_await c.read_exactly(size + 2);
            co_await c.write(chunk);
            if (size == 0) break;
        }
    }
}

// ---- upload ----

AIO_REAL_TEST("upload sends a generator's pieces in chunks, and gives the response") {
    raw_server server(&answers_with_the_chunks);
    http::session s;
    for (const char* method : {"POST", "PUT", "PATCH"}) {
        const http::response r = co_await s.upload(method, server.url(), pieces_of(3, "piece;"));
        EXPECT_EQ(r.text(), "piece;piece;piece;") << method;
    }
    const http::response empty = co_await s.upload("POST", server.url(), pieces_of(0, ""));
    EXPECT_EQ(empty.text(), "");
    const http::response with_empty = co_await s.upload("POST", server.url(), pieces_of(5, ""));
    EXPECT_EQ(with_empty.text(), "");
}

AIO_REAL_TEST("upload with a Content-Length sends that, and a body of another length is an error") {
    raw_server server(&echoes);
    http::session s;
    const http::headers length("Content-Length", "18");
    const http::response r = co_await s.upload("PUT", server.url(), pieces_of(3, "piece;"), {.headers = length});
    EXPECT_TRUE(contains(r.text(), "Content-Length: 18\r\n") && r.text().ends_with("piece;piece;piece;")) << r.text();
    EXPECT_FALSE(contains(r.text(), "chunked"));
    std::string what =
        co_await error_of<http::error>(s.upload("PUT", server.url(), pieces_of(2, "piece;"), {.headers = length}));
    EXPECT_TRUE(contains(what, "12 bytes") && contains(what, "Content-Length is 18")) << what;
    what = co_await error_of<http::error>(s.upload("PUT", server.url(), pieces_of(4, "piece;"), {.headers = length}));
    EXPECT_TRUE(contains(what, "at least 24 bytes")) << what;
    what = co_await error_of<std::invalid_argument>(
        s.upload("PUT", server.url(), pieces_of(1, "p"), {.headers = http::headers("Content-Length", "x")}));
    EXPECT_TRUE(contains(what, "no length")) << what;
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a hundred megabytes are uploaded whole and in order, and at most a few pieces wait") {
    static std::size_t seen;
    seen = 0;
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await c.read_until("\r\n\r\n");
        bool in_order = true;
        while (seen < 1600 * 65536) {
            const std::string some = co_await c.read_some();
            if (some.empty()) co_return;
            for (const char byte : some) in_order = in_order && byte == static_cast<char>('a' + seen++ / 65536 % 26);
        }
        const char* found = in_order ? "in order" : "not in order";
        co_await c.write(answer(found));
    });
    std::size_t given = 0, most = 0;
    auto body = [&]() -> aio::async_generator<std::string> {
        for (int i = 0; i < 1600; ++i) {
            given += 65536;
            most = std::max(most, given - seen);
            co_yield std::string(65536, static_cast<char>('a' + i % 26));
        }
    };
    http::session s;
    const http::headers length("Content-Length", "104857600");
    const http::response r = co_await s.upload("POST", server.url(), body(), {.headers = length});
    EXPECT_EQ(r.text(), "in order");
    EXPECT_LT(most, 20'000'000u);  // the buffers of the kernel
}

AIO_REAL_TEST("what the body's generator throws ends the request, and is thrown") {
    static bool whole;
    whole = true;
    raw_server server([](raw_connection c) -> aio::coro<> {
        const std::string all = co_await c.read_to_end();
        whole = all.ends_with("0\r\n\r\n");
        EXPECT_TRUE(contains(all, "first"));
    });
    http::session s;
    EXPECT_EQ(co_await error_of<std::runtime_error>(s.upload("POST", server.url(), throws_after_one())),
        "the generator has failed");
    EXPECT_EQ(s.running(), 0u);
    co_await aio::wait_for(until([] { return !whole; }), 10s);
}

std::string refusal;
aio::coro<> refuses_early(raw_connection c) {
    co_await c.read_until("\r\n\r\n");
    if (!refusal.empty()) co_await c.read_until("first");
    const std::string head = "HTTP/1.1 413 Payload Too Large\r\n";
    if (refusal == "chunks") {
        co_await c.write(head + "Transfer-Encoding: chunked\r\n\r\n9\r\ntoo large\r\n");
        co_await aio::sleep(5ms);
        co_await c.write("0\r\n\r\n");
    } else if (refusal == "close") {
        co_await c.write(head + "\r\ntoo ");
        co_await aio::sleep(5ms);
        co_await c.write("large");
    } else {
        co_await c.write(head + "Content-Length: 9\r\nConnection: close\r\n\r\ntoo large");
    }
    c.shut_down_writing();
    co_await c.read_to_end();
}
AIO_REAL_TEST("an answer before the body is sent is given, and the generator is closed: 413") {
    raw_server server(&refuses_early);
    http::session s;
    generators = 0;
    refusal.clear();
    const http::response r = co_await s.upload("POST", server.url(), endless(), {.timeout = 60s});
    EXPECT_EQ(r.status(), 413);
    EXPECT_EQ(r.text(), "too large");
    EXPECT_EQ(generators, 0);
    for (const char* kind : {"length", "chunks", "close"}) {
        refusal = kind;
        const http::response waiting = co_await s.upload("POST", server.url(), gives_one_and_waits(), {.timeout = 60s});
        EXPECT_EQ(waiting.status(), 413) << kind;
        EXPECT_EQ(waiting.text(), "too large") << kind;
        EXPECT_EQ(generators, 0);
    }
}

aio::coro<> resets_after_some(raw_connection c) {
    co_await c.read_until("\r\n\r\n");
    co_await c.read_exactly(100'000);
    c.reset();
}
AIO_REAL_TEST("a server that resets while we upload is a system_error, and the generator is closed") {
    raw_server server(&resets_after_some);
    http::session s;
    generators = 0;
    const std::string what = co_await error_of<std::system_error>(s.upload("POST", server.url(), endless()));
    EXPECT_TRUE(contains(what, "POST " + server.url())) << what;
    EXPECT_EQ(generators, 0);
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a redirect that asks for a streamed body once more is an error that says so; 303 becomes a GET") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        for (;;) {
            const std::string head = co_await c.read_until("\r\n\r\n");
            if (head.empty()) co_return;
            if (contains(head, "chunked")) co_await read_chunks(c);
            if (head.find(" /end") != head.npos) {
                co_await c.write(answer(head));
            } else {
                const std::string status = head.substr(head.find('/') + 1, 3) + " Elsewhere";
                co_await c.write(answer("", "Location: /end\r\n", status));
            }
        }
    });
    http::session s;
    for (const char* path : {"/307", "/308"}) {
        const std::string what = co_await error_of<http::error>(s.upload("POST", server.url(path), pieces_of(2, "x")));
        EXPECT_TRUE(contains(what, "/end") && contains(what, "cannot be sent again")) << what;
    }
    const http::response r = co_await s.upload("POST", server.url("/303"), pieces_of(2, "x"));
    EXPECT_TRUE(r.text().starts_with("GET /end")) << r.text();
    const http::response not_followed =
        co_await s.upload("POST", server.url("/307"), pieces_of(2, "x"), {.follow_redirects = false});
    EXPECT_EQ(not_followed.status(), 307);
}

AIO_REAL_TEST("Expect: 100-continue: the body waits for the leave, and a redirect before it takes the body along") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        for (;;) {
            const std::string head = co_await c.read_until("\r\n\r\n");
            if (head.empty()) co_return;
            if (contains(head, " /first ")) {
                co_await c.write(answer("", "Location: /second\r\nConnection: close\r\n", "307 Temporary Redirect"));
                co_return;
            }
            EXPECT_TRUE(contains(head, "Expect: 100-continue")) << head;
            co_await c.write("HTTP/1.1 100 Continue\r\n\r\n");
            const std::string body = co_await read_chunks(c);
            co_await c.write(answer(body));
        }
    });
    http::session s;
    const http::headers expect("Expect", "100-continue");
    http::response r = co_await s.upload("POST", server.url("/second"), pieces_of(2, "x"), {.headers = expect});
    EXPECT_EQ(r.text(), "xx");
    r = co_await s.upload("POST", server.url("/first"), pieces_of(2, "y"), {.headers = expect});
    EXPECT_EQ(r.text(), "yy");
}

AIO_REAL_TEST("an upload that is cancelled closes its connection and its generator") {
    static bool closed;
    closed = false;
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await c.read_to_end();
        closed = true;
    });
    http::session s;
    generators = 0;
    auto t = aio::create_task(s.upload("POST", server.url(), gives_one_and_waits()));
    co_await until([] { return generators == 1; });
    t.cancel();
    try {
        co_await t;
        ADD_FAILURE() << "it was not cancelled";
    } catch (const aio::cancelled_error&) {}
    EXPECT_EQ(generators, 0);
    EXPECT_EQ(s.running(), 0u);
    co_await until([] { return closed; });
}

AIO_REAL_TEST("an upload with a bad URL does not ask its generator") {
    http::session s;
    generators = 0;
    const std::string what = co_await error_of<std::invalid_argument>(s.upload("POST", "nonsense", endless()));
    EXPECT_TRUE(contains(what, "not a URL")) << what;
    EXPECT_EQ(generators, 0);
}

// ---- open ----

AIO_REAL_TEST("open gives status and headers before the body, and the body piece by piece") {
    static aio::event* go_on;
    aio::event leave;
    go_on = &leave;
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        co_await c.write("HTTP/1.1 404 Not Found\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        co_await go_on->wait();
        co_await c.write("5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX-Trailer: t\r\n\r\n");
        co_await c.read_to_end();
    });
    http::session s;
    auto r = co_await s.open("GET", server.url("/x"));
    EXPECT_EQ(r.status(), 404);
    EXPECT_FALSE(r.ok());
    EXPECT_EQ(r.headers()["x-a"], "1");
    EXPECT_EQ(r.url(), server.url("/x"));
    EXPECT_EQ(r.version(), http::version::v1_1);
    EXPECT_THROW(r.raise_for_status(), http::status_error);
    EXPECT_TRUE(r.trailers().empty());
    leave.set();
    std::string all;
    while (auto piece = co_await r.next()) {
        EXPECT_FALSE(piece->empty());
        all += *piece;
    }
    EXPECT_EQ(all, "firstsecond");
    EXPECT_EQ(r.trailers()["x-trailer"], "t");
    EXPECT_FALSE(co_await r.next());
    co_await r.aclose();
    co_await r.aclose();
    EXPECT_EQ(r.trailers()["x-trailer"], "t");
    EXPECT_FALSE(co_await r.next());
    EXPECT_EQ(r.status(), 404);
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("open sends a body, follows redirects, and read() gives what is left; it is a manager") {
    raw_server server(&redirects);
    http::session s;
    auto r = co_await s.open("POST", server.url("/307"), std::string("a body"));
    EXPECT_EQ(r.url(), server.url("/end"));
    const std::string text = co_await r.read();
    EXPECT_TRUE(text.ends_with("a body")) << text;
    EXPECT_EQ(co_await r.read(), "");
    auto other = co_await s.open("DELETE", server.url("/x"));
    co_await aio::with(std::move(other), [](http::streamed_response& inside) -> aio::coro<> {
        EXPECT_TRUE((co_await inside.read()).starts_with("DELETE /x"));
    });
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a streamed response that is dropped, closed or cancelled closes its connection") {
    static int gone;
    gone = 0;
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        co_await c.write("HTTP/1.1 200 OK\r\n\r\nsome");
        co_await c.read_to_end();
        ++gone;
    });
    http::session s;
    {
        auto r = co_await s.open("GET", server.url());
        EXPECT_EQ(*(co_await r.next()), "some");
    }
    EXPECT_EQ(s.running(), 0u);
    co_await until([] { return gone == 1; });
    auto r = co_await s.open("GET", server.url());
    co_await r.aclose();
    co_await until([] { return gone == 2; });
    auto waiting = co_await s.open("GET", server.url());
    EXPECT_EQ(*(co_await waiting.next()), "some");
    EXPECT_THROW(co_await aio::wait_for(waiting.next(), 20ms), aio::timeout_error);
    EXPECT_EQ(s.running(), 1u);
    waiting = co_await s.open("GET", server.url());
    co_await until([] { return gone == 3; });
    EXPECT_EQ(s.running(), 1u);
}

AIO_REAL_TEST("both bodies of an open request are under way at once") {
    raw_server server(&sends_chunks_back);
    aio::queue<std::string> lines;
    auto body = [&]() -> aio::async_generator<std::string> {
        for (;;) {
            std::string line = co_await lines.get();
            if (line.empty()) co_return;
            co_yield std::move(line);
        }
    };
    http::session s;
    auto r = co_await s.open("POST", server.url(), body());
    for (int i = 0; i < 20; ++i) {
        const std::string line = "line " + std::to_string(i);
        co_await lines.put(line);
        const auto piece = co_await aio::wait_for(r.next(), 10s);
        AIO_REQUIRE(piece);
        EXPECT_EQ(*piece, line);
    }
    co_await lines.put("");
    EXPECT_FALSE(co_await r.next());
    co_await r.aclose();
}

AIO_REAL_TEST("a reader that is slow makes the server wait, and gets all in order") {
    raw_server server(&serves_large);
    http::session s;
    auto r = co_await s.open("GET", server.url());
    std::size_t bytes = 0, most = 0;
    while (auto piece = co_await r.next()) {
        bytes += piece->size();
        most = std::max(most, piece->size());
        if (bytes < 1'000'000) co_await aio::sleep(1ms);
    }
    EXPECT_EQ(bytes, 10'000'000u);
    EXPECT_LT(most, 400'000u);
}

AIO_REAL_TEST("a body that is cut short is given up to there, and then it is an error") {
    raw_server server(&cuts_the_body_short);
    http::session s;
    auto r = co_await s.open("GET", server.url());
    EXPECT_EQ(*(co_await r.next()), "five!");
    const std::string what = co_await error_of<http::error>(r.next());
    EXPECT_TRUE(contains(what, "cut short")) << what;
    co_await r.aclose();
}

AIO_REAL_TEST("an open request fails as any other: refused, reset, too slow") {
    raw_server reset(&resets), hanging(&hangs);
    http::session s;
    const std::string what = co_await error_of<std::system_error>(s.open("GET", reset.url()));
    EXPECT_TRUE(contains(what, "GET " + reset.url())) << what;
    const std::string late = co_await error_of<aio::timeout_error>(s.open("GET", hanging.url(), {.timeout = 20ms}));
    EXPECT_TRUE(contains(late, "waiting for the answer")) << late;
    generators = 0;
    const std::string upload =
        co_await error_of<aio::timeout_error>(s.open("POST", hanging.url(), gives_one_and_waits(), {.timeout = 20ms}));
    EXPECT_TRUE(contains(upload, "sending the request")) << upload;
    co_await until([] { return generators == 0; });
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("decompress = false gives the body as it came, and asks for no encoding") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        for (;;) {
            const std::string request = co_await read_request(c);
            if (request.empty()) co_return;
            const bool asked = contains(request, "Accept-Encoding");
            const char* body = asked ? "asked" : "\x1f\x8b raw";
            co_await c.write(answer(body, "Content-Encoding: gzip\r\n"));
        }
    });
    http::session s;
    const http::response r = co_await s.get(server.url(), {.decompress = false});
    EXPECT_EQ(r.text(), "\x1f\x8b raw");
    EXPECT_EQ(r.headers()["Content-Encoding"], "gzip");
}

// ---- forms ----

AIO_REAL_TEST("a form and a multipart are sent with their types, and our own server reads them") {
    const folder files;
    files.write("film", std::string(300'000, 'f'));
    auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.headers()["Content-Type"].starts_with("application/x-www-form-urlencoded")) {
            const http::form f = r.form();
            co_return http::response(200, r.method() + f.at("q") + "|" + f.at("page"));
        }
        const http::multipart m = co_await r.multipart();
        std::string text = m.get("title").value_or("none");
        if (const auto* film = m.file("film")) text += " " + *film->filename + " " + std::to_string(film->body.size());
        co_return http::response(200, text);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/";
    http::session s;
    const http::form search("q", "a & b", "page", "2");
    EXPECT_EQ((co_await s.post(url, search)).text(), "POSTa & b|2");
    EXPECT_EQ((co_await s.put(url, search)).text(), "PUTa & b|2");
    http::multipart upload("title", "A film");
    EXPECT_EQ((co_await s.post(url, upload)).text(), "A film");
    upload.add_path("film", files.path("film"));
    EXPECT_EQ((co_await s.post(url, upload)).text(), "A film film 300000");
    http::multipart missing("title", "none");
    missing.add_path("film", files.path("missing"));
    const std::string what = co_await error_of<std::system_error>(s.post(url, missing));
    EXPECT_TRUE(contains(what, "missing")) << what;
    co_await s.aclose();
    server.close();
    co_await server.drain(10s);
}

// ---- faults ----

AIO_REAL_TEST("an upload and an open request can be cancelled at every step") {
    raw_server server(&sends_chunks_back);
    const std::string url = server.url();
    http::session s;
    generators = 0;
    auto counted = []() -> aio::async_generator<std::string> {
        const counts_generators here;
        for (int i = 0; i < 3; ++i) {
            co_await aio::sleep(0s);
            co_yield std::string("piece");
        }
    };
    auto both = [&]() -> aio::coro<std::string> {
        const http::response r = co_await s.upload("POST", url, counted());
        auto opened = co_await s.open("POST", url, counted());
        std::string text = r.text() + co_await opened.read();
        co_await opened.aclose();
        co_return text;
    };
    bool reached = true;
    for (std::size_t step = 0; reached; ++step) {
        AIO_REQUIRE(step < 10'000);
        reached = false;
        auto subject = aio::create_task(both());
        std::size_t steps = 0;
        aio::testing::set_step_hook([&reached, &steps, subject, step]() mutable {
            if (steps++ == step && !subject.done()) {
                reached = true;
                subject.cancel();
            }
        });
        try {
            EXPECT_EQ(co_await subject, "piecepiecepiecepiecepiecepiece");
        } catch (const aio::cancelled_error&) {}
        aio::testing::set_step_hook(nullptr);
        co_await until([] { return generators == 0; });
        EXPECT_EQ(s.running(), 0u) << step;
    }
}

}  // namespace
