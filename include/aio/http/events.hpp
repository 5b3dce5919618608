#pragma once
// Server-sent events: a response that tells a browser's EventSource what happens, as it happens.
//
//     aio::async_generator<aio::http::event> clock(std::string from) {
//         for (int n = from.empty() ? 0 : std::stoi(from) + 1;; ++n) {
//             aio::http::event tick{.data = "tick", .id = std::to_string(n)};
//             co_yield std::move(tick);
//             co_await aio::sleep(1s);
//         }
//     }
//     aio::coro<aio::http::response> clock_page(aio::http::request request) {
//         std::string last = request.headers()["Last-Event-ID"];      // of a browser that has lost its connection
//         co_return aio::http::events(clock(last), {.ping = 15s});
//     }
//
// Source: the HTML Standard, 9.2.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/delay.hpp>
#include <aio/http/message.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace aio::inline v0::http {

/// One event of a stream of server-sent events.
struct event {
    std::string data = {};                                          // of any number of lines
    std::string event = {};                                         // its type; empty: "message"
    std::string id = {};                                            // comes back as Last-Event-ID; empty: none
    std::optional<std::chrono::milliseconds> retry = std::nullopt;  // after which a browser connects again
};

/// The options of events().
struct events_options {
    delay ping = std::nullopt;  // after so long without an event a comment is sent, so that no proxy gives up
};

/// Gives a response that sends events as the generator gives them, until it ends, the client goes away or the server
/// closes (a browser then connects again, to the next server); then the generator is closed. An id or an event type
/// with a line break in it, or an id with a NUL, ends the response, and the error, std::invalid_argument, is told as
/// that of a stream: see response::stream().
response events(async_generator<event> source, events_options options = {});

}  // namespace aio::inline v0::http
