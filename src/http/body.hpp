#pragma once
// Bodies that are no text: those that a handler reads while they come, and those that a server sends piece by piece.
// The engines (HTTP/1 in server/, HTTP/2, the test client) give sources and send special bodies; the makers of requests
// and responses (message.cpp, files, WebSockets) know no engine.

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/file.hpp>
#include <aio/http/message.hpp>
#include <aio/stream.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace aio::inline v0::detail {

/// The rest of a request's body, which the engine reads from its connection. The engine outlives the handler, and tells
/// a source that it leaves to be read by nobody.
class http_body_source {
public:
    http_body_source() = default;
    http_body_source(const http_body_source&) = delete;
    http_body_source& operator=(const http_body_source&) = delete;
    virtual ~http_body_source() = default;
    /// Gives the next piece; an empty one at the end. Throws http::error for a body that breaks the protocol, is too
    /// large or is cut short, timeout_error for one that is too slow. Revertible.
    virtual coro<std::string> next() = 0;

    http::headers trailers;  // once next() has given the end
};

/// What a response sends instead of its text: one of the three.
struct http_special_body {
    std::optional<async_generator<std::string>> pieces;
    std::shared_ptr<const http::headers> trailers;  // may be null: what the generator of the pieces fills

    std::optional<aio::file> source;  // count bytes of it from offset on
    std::uint64_t offset = 0;
    std::uint64_t count = 0;

    // After the head with status 101: it owns the connection from there on, with what the client has sent behind its
    // request. It runs in the connection's task.
    function<coro<>(aio::stream)> upgrade;
    // Beside upgrade or pieces: the server closes, so they are to come to their end soon; it may be called before they
    // begin, too. Without it the task of an upgrade is cancelled, and pieces are waited for.
    function<void()> going_away;
};

// ---- in trailers.cpp: for the engines

/// True if fields may come after the body of this response.
bool http_may_have_trailers(const http::response& r) noexcept;
/// Throws std::invalid_argument if one of the trailers that are there must not come after a body.
void http_check_trailers(const http::response& r);
/// The generator has come to its end: adds what it has left to r.trailers(), and checks them.
void http_take_trailers(http::response& r);

}  // namespace aio::inline v0::detail
