// Runs the HTTP client and server with each allocation failing in its turn: see out_of_memory.hpp.
#include "http_stream_scenario.hpp"
#include "out_of_memory.hpp"

#include <aio/http.hpp>

namespace {

/// Stops the server, then throws the scenario's error, or else what the server has thrown at its end.
aio::coro<> stop(aio::http::server& server, std::exception_ptr error) {
    server.close();
    std::exception_ptr at_end;
    try {
        co_await server.drain(1h);
    } catch (...) { at_end = std::current_exception(); }
    if (error) std::rethrow_exception(error);
    if (at_end) std::rethrow_exception(at_end);
}

}  // namespace

PLAIN_TEST("fault C11: HTTP, a server and a session") {
    aio_test::survives_without_memory(
        []() -> aio::coro<> {
            auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
                const aio_test::counted local;
                co_return aio::http::response(200, std::string(r.path()));
            };
            auto server = co_await aio::http::start_server(handler, "127.0.0.1", 0);
            std::exception_ptr error;
            try {
                const std::string url =
                    "http://127.0.0.1:" + std::to_string(server.port()) + "/a/path/that/is/rather/long/for/a/string";
                aio::http::session s;
                const aio::http::response r = co_await aio::wait_for(s.get(url), 10s);
                if (r.status() == 200 && r.text() != "/a/path/that/is/rather/long/for/a/string")
                    throw std::logic_error("another body");
            } catch (const std::system_error&) {  // the failed allocation was the server's
            } catch (const aio::http::error&) {
            } catch (...) { error = std::current_exception(); }
            co_await stop(server, error);
        },
        {.real_time = true, .threads = true, .at_least = 20});
}

PLAIN_TEST("HTTP, a body that comes and goes at the same time") {
    aio_test::survives_without_memory(aio_test::streaming_scenario, {.real_time = true, .at_least = 20});
}

PLAIN_TEST("fault C11: HTTP, bodies that stream, and a retry") {
    aio_test::survives_without_memory(
        []() -> aio::coro<> {
            auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
                co_return aio::http::response(200, r.headers()["Content-Length"]);
            };
            auto server = co_await aio::http::start_server(handler, "127.0.0.1", 0);
            auto body = []() -> aio::async_generator<std::string> {
                const aio_test::counted local;
                for (int i = 0; i < 3; ++i) co_yield std::string(100, 'x');
            };
            std::exception_ptr error;
            try {
                const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/a/rather/long/path";
                aio::http::session s({.cookies = true});
                const aio::http::headers length("Content-Length", "300");
                auto upload = [&] { return s.upload("PUT", url, body(), {.headers = length}); };
                const aio::http::retry_policy once{.attempts = 1};
                const aio::http::response r = co_await aio::wait_for(aio::http::retry(once, upload), 10s);
                if (r.status() == 200 && r.text() != "300") throw std::logic_error("another body");
                auto opened = co_await s.open("PUT", url, body(), {.timeout = 10s, .headers = length});
                const std::string text = co_await opened.read();
                if (opened.status() == 200 && text != "300") throw std::logic_error("another body");
                co_await opened.aclose();
            } catch (const std::system_error&) {  // the failed allocation was the server's
            } catch (const aio::http::error&) {
            } catch (...) { error = std::current_exception(); }
            co_await stop(server, error);
        },
        {.real_time = true, .threads = true, .at_least = 20});
}
