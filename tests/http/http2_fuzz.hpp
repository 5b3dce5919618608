#pragma once
// A check of HTTP/2 on the server that holds for all bytes behind a client's greeting. libFuzzer calls it in
// http2_fuzz.cpp, and http2_hostile_test.cpp with a fixed sequence of inputs.

#include "http2_client.hpp"

#include <string>
#include <string_view>

namespace http_fuzz {

/// Serves a client that sends these bytes, and ends. Gives what is wrong, or an empty string. The first byte says
/// whether the handler reads bodies piece by piece.
inline std::string http2(std::string_view bytes) {
    std::string wrong;
    auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
        const aio_test::counted local;
        auto body = r.stream();
        while (co_await body.next()) {}
        co_return aio::http::response(200, std::string(100'000, 'x'));
    };
    aio_test::http2_test_host host(handler);
    host.streamed = !bytes.empty() && (bytes[0] & 1) != 0;
    host.streams = 10;
    const std::string text = aio_test::http2_hello() + std::string(bytes.substr(bytes.empty() ? 0 : 1));
    auto talk = [&]() -> aio::coro<> {
        auto [here, there] = aio::testing::stream_pair();
        const auto owned = host.state();
        aio::detail::http_server_state& server = *owned;
        aio::task<> serving = aio::create_task(aio::detail::serve_http2(server, std::move(there), {}));
        try {
            co_await here.write(text);
            co_await aio_test::turns(5);
            here.write_eof();
            static_cast<void>(co_await here.read());
        } catch (const std::system_error&) {  // the server may cut the connection
        }
        co_await here.aclose();
        co_await serving;
        if (server.counts.active != 0) wrong = "a handler is left";
    };
    aio::testing::run(talk(), {.virtual_time = true});
    if (aio_test::counted::alive != 0) wrong = "a coroutine is left";
    return wrong;
}

}  // namespace http_fuzz
