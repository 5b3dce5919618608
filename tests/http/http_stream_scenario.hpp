#pragma once
// What brute force and failing allocations are done to: a client that sends a body in chunks and gets it back while it
// comes, and the counts that tell whether the server has left something behind.

#include "aio_test.hpp"

#include <aio/http.hpp>

#include <exception>
#include <string>
#include <utility>

namespace aio_test {

inline aio::async_generator<std::string> given_back(aio::async_generator<std::string> body) {
    const counted local;
    while (auto piece = co_await body.next()) { co_yield std::move(*piece); }
}

/// Sends the request, and gives what it gets.
inline aio::coro<std::string> stream_once(int port) {
    aio::stream c = co_await aio::open_connection("127.0.0.1", port);
    co_await c.write(
        "PUT /a/target/that/is/longer/than/a/short/string HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    std::string all = co_await c.read(1000);
    co_await c.write("6\r\n world\r\n0\r\n\r\n");
    all += co_await c.read();
    co_await c.aclose();
    co_return all;
}

/// A server, a client, and an orderly end of both.
inline aio::coro<> streaming_scenario() {
    auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
        const counted local;
        co_return aio::http::response::stream(200, given_back(r.stream()));
    };
    auto server = co_await aio::http::start_server(
        aio::http::unbuffered(handler), "127.0.0.1", 0, {.cancel_on_disconnect = true});
    std::exception_ptr error;
    try {
        const std::string all = co_await aio::wait_for(stream_once(server.port()), 10s);
        const bool whole = all.ends_with("0\r\n\r\n");
        if (whole && (all.find("hello") == all.npos || all.find(" world") == all.npos))
            throw std::logic_error("another body");
    } catch (const std::system_error&) {  // what was done to the scenario has hit the server
    } catch (...) { error = std::current_exception(); }
    server.close();
    std::exception_ptr at_end;
    try {
        co_await aio::shield(server.drain(1h));
    } catch (...) { at_end = std::current_exception(); }
    if (error) std::rethrow_exception(error);
    if (at_end) std::rethrow_exception(at_end);
}

}  // namespace aio_test
