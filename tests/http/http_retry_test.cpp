// Tests of http::retry: with answers made by hand on the virtual clock, and with a session and bad servers.
#include "http_raw.hpp"
#include "http_scripts.hpp"

#include <aio/http.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

/// Counts calls, and answers with one status after the other; the last one again and again.
struct script {
    std::vector<int> statuses;
    http::headers fields;
    int calls = 0;
    aio::coro<http::response> operator()() {
        const std::size_t i = std::min(static_cast<std::size_t>(calls++), statuses.size() - 1);
        co_return http::response(statuses[i], "body", fields);
    }
};

std::chrono::duration<double> since(aio::time_point start) { return aio::get_running_loop().time() - start; }

AIO_TEST("a retry waits longer each time, up to most, and gives the first good response") {
    script s{{503, 429, 500, 502, 200}, {}, 0};
    const auto start = aio::get_running_loop().time();
    const http::response r =
        co_await http::retry({.attempts = 9, .first = 1s, .most = 4s, .jitter = 0}, [&] { return s(); });
    EXPECT_EQ(r.status(), 200);
    EXPECT_EQ(s.calls, 5);
    EXPECT_EQ(since(start).count(), 1 + 2 + 4 + 4);
}

AIO_TEST("the last response or error is given when the attempts are used up") {
    script s{{503}, {}, 0};
    const http::response r = co_await http::retry({.attempts = 3}, [&] { return s(); });
    EXPECT_EQ(r.status(), 503);
    EXPECT_EQ(s.calls, 3);
    int calls = 0;
    auto refused = [&]() -> aio::coro<http::response> {
        ++calls;
        throw std::system_error(ECONNREFUSED, std::generic_category(), "number " + std::to_string(calls));
        co_return http::response();
    };
    const std::string what = co_await error_of<std::system_error>(http::retry({.attempts = 3}, refused));
    EXPECT_TRUE(contains(what, "number 3")) << what;
    script once{{503}, {}, 0};
    co_await http::retry({.attempts = 0}, [&] { return once(); });
    EXPECT_EQ(once.calls, 1);
}

AIO_TEST("other statuses and other errors are not repeated") {
    for (const int status : {200, 301, 400, 401, 404, 409, 501, 505}) {
        script s{{status}, {}, 0};
        const http::response r = co_await http::retry({}, [&] { return s(); });
        EXPECT_EQ(r.status(), status);
        EXPECT_EQ(s.calls, 1) << status;
    }
    int calls = 0;
    const auto throws = [&calls](auto error) {
        calls = 0;
        return [&calls, error]() -> aio::coro<http::response> {
            ++calls;
            throw error;
            co_return http::response();
        };
    };
    auto other = throws(std::runtime_error("other"));
    co_await error_of<std::runtime_error>(http::retry({}, other));
    EXPECT_EQ(calls, 1);
    auto late = throws(aio::timeout_error("late"));
    co_await error_of<aio::timeout_error>(http::retry({}, late));
    EXPECT_EQ(calls, 1);
    auto missing = throws(std::system_error(ENOENT, std::generic_category(), "x"));
    co_await error_of<std::system_error>(http::retry({}, missing));
    EXPECT_EQ(calls, 1);
    auto not_found = throws(http::status_error(404, "http://x/"));
    co_await error_of<http::status_error>(http::retry({}, not_found));
    EXPECT_EQ(calls, 1);
    auto busy = throws(http::status_error(503, "http://x/"));
    co_await error_of<http::status_error>(http::retry({.attempts = 3}, busy));
    EXPECT_EQ(calls, 3);
}

AIO_TEST("Retry-After makes a wait longer, in seconds or as a date, up to most") {
    const auto waited = [](http::headers fields) -> aio::coro<double> {
        script s{{503, 200}, std::move(fields), 0};
        const auto start = aio::get_running_loop().time();
        const http::response r = co_await http::retry({.first = 2s, .most = 60s, .jitter = 0}, [&] { return s(); });
        EXPECT_EQ(r.status(), 200);
        co_return since(start).count();
    };
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "7")), 7);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "1")), 2);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "3600")), 60);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "99999999999999999999")), 2);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "soon")), 2);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "-5")), 2);
    const http::headers date("Retry-After", "Sun, 06 Nov 1994 08:49:52 GMT", "Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    EXPECT_EQ(co_await waited(date), 15);
    EXPECT_EQ(co_await waited(http::headers("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")), 2);
}

AIO_TEST("jitter makes a wait shorter by that part at most") {
    for (int i = 0; i < 50; ++i) {
        script s{{503, 200}, {}, 0};
        const auto start = aio::get_running_loop().time();
        co_await http::retry({.first = 10s, .jitter = 0.5}, [&] { return s(); });
        EXPECT_GE(since(start).count(), 5);
        EXPECT_LE(since(start).count(), 10);
    }
}

AIO_TEST("a policy that makes no sense is refused") {
    script s{{200}, {}, 0};
    co_await error_of<std::invalid_argument>(http::retry({.jitter = 1.5}, [&] { return s(); }));
    co_await error_of<std::invalid_argument>(http::retry({.jitter = -0.1}, [&] { return s(); }));
    co_await error_of<std::invalid_argument>(http::retry({.first = std::nullopt}, [&] { return s(); }));
    co_await error_of<std::invalid_argument>(http::retry({.most = std::nullopt}, [&] { return s(); }));
    EXPECT_EQ(s.calls, 0);
}

AIO_TEST("a cancel ends the wait, and is not repeated") {
    script s{{503}, {}, 0};
    auto t = aio::create_task(http::retry({.first = 1h, .most = 2h}, [&] { return s(); }));
    co_await aio::sleep(1s);
    t.cancel();
    EXPECT_THROW(co_await t, aio::cancelled_error);
    EXPECT_EQ(s.calls, 1);
}

int requests = 0;
aio::coro<> fails_twice(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        ++requests;
        if (requests <= 2 && contains(request, " /reset ")) {
            c.reset();
            co_return;
        }
        const bool fails = requests <= 2 && contains(request, " /busy ");
        const std::string status = fails ? "503 Service Unavailable" : "200 OK";
        co_await c.write(answer("done", {}, status));
    }
}

AIO_REAL_TEST("requests of a session are repeated if their method may be, or by option") {
    raw_server server(&fails_twice);
    http::session s;
    const http::retry_policy quick{.first = 1ms};
    http::retry_policy any = quick;
    any.any_method = true;
    for (const char* path : {"/busy", "/reset"}) {
        const std::string url = server.url(path);
        requests = 0;
        EXPECT_EQ((co_await http::retry(quick, [&] { return s.get(url); })).text(), "done") << path;
        EXPECT_EQ(requests, 3);
        requests = 0;
        EXPECT_EQ((co_await http::retry(any, [&] { return s.post(url, "x"); })).text(), "done") << path;
        EXPECT_EQ(requests, 3);
        requests = 0;
        auto checked = [&]() -> aio::coro<http::response> {
            http::response r = co_await s.put(url, "x");
            r.raise_for_status();
            co_return r;
        };
        EXPECT_EQ((co_await http::retry(quick, checked)).text(), "done") << path;
        EXPECT_EQ(requests, 3);
    }
    requests = 0;
    EXPECT_EQ((co_await http::retry(quick, [&] { return s.post(server.url("/busy"), "x"); })).status(), 503);
    EXPECT_EQ(requests, 1);
    requests = 0;
    co_await error_of<std::system_error>(http::retry(quick, [&] { return s.post(server.url("/reset"), "x"); }));
    EXPECT_EQ(requests, 1);
}

AIO_REAL_TEST("a body that is cut short is repeated, a timeout of the whole is not, and an unsent POST is") {
    static int cuts;
    cuts = 0;
    raw_server cut([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        const std::string cut_off = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndo";
        const std::string reply = ++cuts < 3 ? cut_off : answer("done");
        co_await c.write(reply);
    });
    http::session s;
    const http::retry_policy quick{.first = 1ms};
    EXPECT_EQ((co_await http::retry(quick, [&] { return s.get(cut.url()); })).text(), "done");
    EXPECT_EQ(cuts, 3);
    raw_server silent(&hangs);
    int calls = 0;
    co_await error_of<aio::timeout_error>(http::retry(quick, [&] {
        ++calls;
        return s.get(silent.url(), {.timeout = 20ms});
    }));
    EXPECT_EQ(calls, 1);
    calls = 0;
    co_await error_of<aio::timeout_error>(http::retry(quick, [&] {
        ++calls;
        return s.get(silent.url(), {.first_byte_timeout = 10ms});
    }));
    EXPECT_EQ(calls, 4);
    calls = 0;
    co_await error_of<std::system_error>(http::retry(quick, [&] {
        ++calls;
        return s.post("http://127.0.0.1:1/", "x");
    }));
    EXPECT_EQ(calls, 4);
}

}  // namespace
