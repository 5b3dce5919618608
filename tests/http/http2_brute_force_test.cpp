// Runs HTTP/2 on the server as tests/whole/brute_force_test.cpp runs the core: cancelled at every step, the loop ended
// at every step, each allocation failing.
#include "brute_force.hpp"
#include "http2_client.hpp"

namespace {

using aio_test::http2_client;
using aio_test::http2_test_host;
namespace http = aio::http;

aio::async_generator<std::string> some_pieces(std::shared_ptr<http::headers> trailers) {
    const aio_test::counted local;
    for (int i = 0; i < 3; ++i) {
        co_yield std::string(1'000, 'x');
        co_await aio::sleep(1ms);
    }
    trailers->set("X-Sum", "3000");
}

aio::coro<http::response> handle(http::request r) {
    const aio_test::counted local;
    if (r.path() == "/read") {
        std::size_t size = 0;
        auto body = r.stream();
        while (auto piece = co_await body.next()) { size += piece->size(); }
        co_return http::response(200, std::to_string(size));
    }
    co_await aio::sleep(1ms);
    if (r.path() == "/stream") {
        auto trailers = std::make_shared<http::headers>();
        co_return http::response::stream(200, some_pieces(trailers), {}, trailers);
    }
    co_return http::response(200, r.body());
}

// A client's requests, with the server's side in a task of its own.
aio::coro<> exchange(bool streamed) {
    http2_test_host host(&handle);
    host.streamed = streamed;
    auto [here, there] = aio::testing::stream_pair({.capacity = 3'000});
    const auto owned = host.state();
    aio::detail::http_server_state& state = *owned;
    aio::task<> server = aio::create_task(aio::detail::serve_http2(state, std::move(there), {}));
    std::exception_ptr error;
    try {
        http2_client c(std::move(here));
        const std::int32_t one = c.request("POST", "/read", {}, "some bytes");
        const std::int32_t two = c.request("GET", "/stream");
        const std::int32_t three = c.request("GET", "/cancelled");
        co_await c.send();
        c.reset(three);
        const auto a = co_await c.answer(one);
        const auto b = co_await c.answer(two);
        if (a.ended && a.status == 200 && a.body != "10") throw std::logic_error("another body: " + a.body);
        if (b.ended && b.status == 200 && b.body.size() != 3'000) throw std::logic_error("another body");
        if (b.ended && b.status == 200 && b.trailers["x-sum"] != "3000") throw std::logic_error("no trailers");
        co_await c.stream().aclose();
    } catch (const std::system_error&) {  // what was done to the scenario has hit the server
    } catch (...) { error = std::current_exception(); }
    std::exception_ptr of_server;
    server.cancel();
    try {
        co_await server;
    } catch (const aio::cancelled_error&) {
        if (aio::current_task().cancelling() > 0 && !error) error = std::current_exception();
    } catch (...) { of_server = std::current_exception(); }
    if (error) std::rethrow_exception(error);
    if (of_server) std::rethrow_exception(of_server);
}

}  // namespace

PLAIN_TEST("http2: requests, bodies both ways and a reset, the bodies collected") {
    aio_test::withstands([] { return exchange(false); });
}

PLAIN_TEST("http2: requests, bodies both ways and a reset, the bodies read piece by piece") {
    aio_test::withstands([] { return exchange(true); });
}
