// Runs the HTTP client and server as tests/whole/brute_force_test.cpp runs the core.

#include "brute_force.hpp"
#include "http_stream_scenario.hpp"

#include <aio/http.hpp>

PLAIN_TEST("http: a session gets its connections back, and a server ends") {
    auto scenario = []() -> aio::coro<> {
        auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
            const aio_test::counted local;
            co_await aio::sleep(1ms);
            co_return aio::http::response(200, std::string(r.path()));
        };
        auto server = co_await aio::http::start_server(handler, "127.0.0.1", 0);
        const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/path";
        std::exception_ptr error;
        try {
            aio::http::session s;
            const aio::http::response r = co_await s.get(url);
            if (r.status() == 200) { EXPECT_EQ(r.text(), "/path"); }
        } catch (const aio::timeout_error&) {
            error = std::current_exception();
        } catch (const std::system_error&) {  // what was done to the scenario has hit the server
        } catch (...) { error = std::current_exception(); }
        server.close();
        co_await aio::shield(server.drain(1h));
        if (error) std::rethrow_exception(error);
    };
    aio_test::withstands(scenario, {.real_time = true});
}

PLAIN_TEST("http: a body that comes and goes at the same time leaves nothing behind") {
    aio_test::withstands(aio_test::streaming_scenario, {.real_time = true});
}

PLAIN_TEST("http: a session's bodies that stream, both ways") {
    auto scenario = []() -> aio::coro<> {
        auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
            const aio_test::counted local;
            co_return aio::http::response(200, r.body());
        };
        auto server = co_await aio::http::start_server(handler, "127.0.0.1", 0);
        const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/path";
        auto body = []() -> aio::async_generator<std::string> {
            const aio_test::counted local;
            co_yield std::string("one");
            co_await aio::sleep(1ms);
            co_yield std::string("two");
        };
        std::exception_ptr error;
        try {
            aio::http::session s({.timeout = 3s});
            const aio::http::response r = co_await s.upload("POST", url, body());
            if (r.status() == 200) { EXPECT_EQ(r.text(), "onetwo"); }
            auto opened = co_await s.open("POST", url, body());
            const std::string text = co_await opened.read();
            if (opened.status() == 200) { EXPECT_EQ(text, "onetwo"); }
            co_await opened.aclose();
        } catch (const aio::timeout_error&) {
            error = std::current_exception();
        } catch (const std::system_error&) {  // what was done to the scenario has hit the server
        } catch (const aio::http::error&) {
        } catch (...) { error = std::current_exception(); }
        server.close();
        co_await aio::shield(server.drain(1h));
        if (error) std::rethrow_exception(error);
    };
    aio_test::withstands(scenario, {.real_time = true});
}
