// Runs HTTP/2 on the server with each allocation failing in its turn, nghttp2's too: see out_of_memory.hpp.
#include "out_of_memory.hpp"

#include "http2_client.hpp"

PLAIN_TEST("fault C11: HTTP/2, a server's connection") {
    aio_test::survives_without_memory(
        []() -> aio::coro<> {
            auto handler = [](aio::http::request r) -> aio::coro<aio::http::response> {
                const aio_test::counted local;
                auto body = r.stream();
                std::size_t size = 0;
                while (auto piece = co_await body.next()) { size += piece->size(); }
                auto pieces = []() -> aio::async_generator<std::string> {
                    co_yield std::string("a piece that is longer than a short string");
                    co_yield std::string("another one");
                };
                if (size == 0) co_return aio::http::response::stream(200, pieces());
                co_return aio::http::response(200, "a text that is longer than a short string");
            };
            aio_test::http2_test_host host(handler);
            host.streamed = true;
            auto [here, there] = aio::testing::stream_pair();
            // The client's part is made beforehand: what fails is the server's memory, or that of the streams.
            const std::string requests = aio_test::http2_hello() +
                aio_test::http2_frame(1, 5, 1, aio_test::http2_block(aio_test::http2_get())) +
                aio_test::http2_frame(1, 4, 3,
                    aio_test::http2_block(
                        {{":method", "POST"}, {":scheme", "http"}, {":path", "/a/path/that/is/rather/long"},
                            {":authority", "localhost"}, {"x-name", "a value that is longer than a short string"}})) +
                aio_test::http2_frame(0, 0, 3, "body") + aio_test::http2_frame(0, 1, 3, " and more");
            auto client = [](aio::stream s, std::string text) -> aio::coro<> {
                try {
                    co_await s.write(text);
                    co_await aio_test::turns(30);
                    s.write_eof();
                    static_cast<void>(co_await s.read());
                } catch (const std::system_error&) {}
            };
            aio::task<> asking = aio::create_task(client(std::move(here), requests));
            const auto owned = host.state();
            aio::detail::http_server_state& state = *owned;
            std::exception_ptr error;
            try {
                co_await aio::detail::serve_http2(state, std::move(there), {});
            } catch (...) { error = std::current_exception(); }
            try {
                co_await asking;
            } catch (const std::bad_alloc&) {}
            if (error) std::rethrow_exception(error);
        },
        {.at_least = 40});
}
