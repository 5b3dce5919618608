// Bodies that a handler reads while they come. The handler awaits next(), which reads from the connection, so the
// client's bytes stay in its own buffers until the handler wants them. Nothing else reads from the connection
// meanwhile: the connection's task is in the handler, or sends its response, which may be made of the body.
//
// The generator of request.stream() may be given away, and be read when the connection has gone. So each step looks
// whether the connection is still there, and what a step awaits refers to the stream alone.

#include "http/server/engine.hpp"

#include <aio/errors.hpp>
#include <aio/event_loop.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <chrono>

namespace aio::inline v0::detail {

using namespace std::chrono_literals;

namespace {
constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
}

delay body_pace::limit(const http::server_options& options) const {
    const time_point::duration for_a_piece = options.body_timeout ? options.body_timeout.value() : 0s;
    std::optional<time_point::duration> limit;
    if (options.body_timeout) limit = for_a_piece;
    if (options.min_body_rate > 0) {
        const auto grace = options.body_timeout ? for_a_piece : 30s;
        const std::uint64_t seconds = std::min<std::uint64_t>(bytes_ / options.min_body_rate, 1'000'000'000);
        const auto left = grace + std::chrono::seconds(seconds) - waited_;
        limit = limit ? std::min(*limit, left) : left;
    }
    if (options.max_body_time) {
        const auto left = options.max_body_time.value() - waited_;
        limit = limit ? std::min<time_point::duration>(*limit, left) : left;
    }
    return limit ? delay(*limit) : delay(std::nullopt);
}

// Gives what has come already. False if there is nothing, and the end has not come either.
bool http1_body::take_piece(std::string& piece) {
    http_connection& c = *connection_;
    if (c.taken == 0 && !c.buffer.empty() && c.parser.bad_status() == 0 && c.parser.pass_piece(c.buffer.size())) {
        piece = std::exchange(c.buffer, {});
    } else {
        c.take(c.parser.feed(c.unread()));
        if (c.parser.bad_status() != 0) fail(c);
        piece = c.parser.take_piece();
    }
    if (c.parser.complete()) {
        ended_ = true;
        trailers = c.parser.take_trailers();
    }
    return ended_ || !piece.empty();
}

void http1_body::fail(http_connection& c) {
    if (c.parser.bad_status() == 408) throw timeout_error(c.parser.bad_reason());
    throw http::error("the body of a request from " + c.peer + ": " + c.parser.bad_reason());
}

coro<std::string> http1_body::next() {
    struct reading_now {
        bool& flag;
        explicit reading_now(bool& f) noexcept : flag(f) { flag = true; }
        ~reading_now() { flag = false; }
    };
    for (;;) {
        if (ended_) co_return {};
        if (!connection_) throw http::error("the body of a request is gone: the request has been answered");
        http_connection& c = *connection_;
        std::string piece;
        if (take_piece(piece)) co_return piece;

        const bool asks = std::exchange(must_continue_, false) && !c.head_sent;
        const time_point begin = get_running_loop().time();
        std::string more;
        bool in_time = true;
        try {
            const reading_now now(reading_);
            if (asks) {
                c.sent(go_on.size());
                co_await wait_for(c.client.write(go_on), c.server.options.write_timeout);
            }
            if (connection_) more = co_await wait_for(c.client.read(read_size), c.pace.limit(c.server.options));
        } catch (const timeout_error&) { in_time = false; } catch (const std::system_error&) {  // the body is cut
        }
        if (!connection_) continue;
        c.pace.waited(get_running_loop().time() - begin, more.size());
        if (!in_time) {
            c.parser.refuse(408, "the body did not come in time");
        } else if (more.empty()) {
            c.parser.refuse(400, "the body was cut short");
        } else {
            c.received(std::move(more));
        }
    }
}

}  // namespace aio::inline v0::detail
