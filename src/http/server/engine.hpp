#pragma once
// What the files of the HTTP/1 engine share. server.cpp starts servers and ends them; connection.cpp serves a
// connection: it reads a request, has it handled and answered, and begins again; request_body.cpp gives a handler the
// body of its request piece by piece; sending.cpp sends responses.

#include "http/body.hpp"
#include "http/server/request_parser.hpp"
#include "http/server/response_head.hpp"

#include <aio/delay.hpp>
#include <aio/detail/base/counter.hpp>
#include <aio/detail/base/list.hpp>
#include <aio/detail/loop/descriptor.hpp>
#include <aio/http/server.hpp>
#include <aio/stream.hpp>
#include <aio/task.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

/// A connection of whatever version of HTTP, as far as its server has to know it.
class served_connection : public list_node {
public:
    served_connection() = default;
    served_connection(const served_connection&) = delete;
    served_connection& operator=(const served_connection&) = delete;
    virtual ~served_connection() {
        if (linked()) unlink();
    }
    /// The server is closed: what is idle ends now, the rest after what is under way.
    virtual void server_closes() noexcept = 0;
};

/// The http::server_statistics of one thread.
struct http_server_counts {
    counter accepted, refused_connections, requests, active, refused_requests, handler_errors, lost_clients;
    counter bytes_received, bytes_sent;
    void add_to(http::server_statistics& all) const noexcept;
};

/// What a server and its connections have in common, on one thread.
class alignas(64) http_server_state {
public:
    http_server_state(http_handler h, http_server_settings s)
        : handler(std::move(h)), options(s.options), tls(std::move(s.tls)), log(std::move(s.log)) {}

    http_handler handler;
    const http::server_options options;  // without its pointers
    tls_context_ref tls;
    std::shared_ptr<function<void(const http::access_record&)>> log;
    list<served_connection> connections;
    /// Connections that count against max_connections, on all threads.
    std::shared_ptr<std::atomic<std::size_t>> open = std::make_shared<std::atomic<std::size_t>>(0);
    http_server_counts counts;
    bool draining = false;
    std::vector<std::shared_ptr<http_server_state>> others;  // of the other threads; the owner has them

    /// Called on the state's own thread. leaving: the handlers are cancelled next.
    void close(bool leaving = false) noexcept;
};

/// How long the server goes on to wait for a body: body_timeout for each piece, and less if the body is slow on the
/// whole. Only waiting counts, so a handler that is slow to read harms nobody.
class body_pace {
public:
    void begin() noexcept { *this = {}; }
    delay limit(const http::server_options& options) const;
    void waited(time_point::duration time, std::size_t bytes) noexcept {
        waited_ += time;
        bytes_ += bytes;
    }

private:
    time_point::duration waited_{};
    std::uint64_t bytes_ = 0;
};

enum class read_outcome : std::uint8_t { bytes, end, lost, nothing };

class http1_body;

/// A connection. It lies in the frame of the connection's task.
struct http_connection final : served_connection {
    http_connection(http_server_state& s, stream c);
    ~http_connection() override;
    void server_closes() noexcept override;

    std::string_view unread() const noexcept { return std::string_view(buffer).substr(taken); }
    /// The parser has taken bytes from the front of unread().
    void take(std::size_t bytes) noexcept;
    void received(std::string more);
    /// Gives the responses that wait for the next write.
    std::string take_held() noexcept {
        if (flush_.linked()) flush_.unlink();
        return std::exchange(held, {});
    }
    /// A look of the loop sends what is held.
    void flush_later();
    void sent(std::size_t bytes) noexcept {
        bytes_sent += bytes;
        server.counts.bytes_sent += bytes;
    }

    http_server_state& server;
    stream client;  // empty once it was given to an upgrade
    any_task task;
    const std::string peer;
    std::string held;       // responses that go out with a later one, because the next request has come already
    std::string buffer;     // bytes that have come,
    std::size_t taken = 0;  // and how many of them the parser has taken
    http_request_parser parser;
    body_pace pace;
    std::shared_ptr<http1_body> body;        // of a request whose handler reads it
    function<void()>* going_away = nullptr;  // of a response that wants to be told that the server closes
    std::uint64_t bytes_received = 0, bytes_sent = 0;
    std::size_t requests = 0;
    bool head_sent = false;  // of the response to this request
    int writing = 0;         // writes that the client has to take
    bool idle = false;       // waits for a request, lingers, or is upgraded: a server that closes may cancel it
    bool ended = false;      // a server that closes has cancelled it
    bool gone = false;       // the client has gone, and its handler or generator was cancelled

private:
    struct held_flush final : flushable {
        explicit held_flush(http_connection& c) noexcept : connection(c) {}
        void flush() noexcept override;
        http_connection& connection;
    };
    held_flush flush_{*this};
    aio::task<> flusher_;                     // writes what is held while a handler works
    std::shared_ptr<http_connection*> self_;  // for the flusher, which may outlive the connection
};

/// The rest of a request's body. The connection outlives the handler, but not what the handler may have given it to.
class http1_body final : public http_body_source {
public:
    http1_body(http_connection& c, bool must_continue) noexcept : connection_(&c), must_continue_(must_continue) {}
    coro<std::string> next() override;
    /// The request has been answered. What reads on gets an error.
    void leave() noexcept { connection_ = nullptr; }
    bool is_read_now() const noexcept { return reading_; }
    /// True if the client waits for a "100 Continue" that was not sent.
    bool must_continue() const noexcept { return must_continue_; }

private:
    bool take_piece(std::string& piece);
    [[noreturn]] void fail(http_connection& c);
    http_connection* connection_;
    bool must_continue_;
    bool reading_ = false;
    bool ended_ = false;
};

/// While it lives, the connection is watched, because nobody else reads from it: a client that goes away cancels the
/// connection's task. A reset tells that for certain, and the end of what the client sends after a delay: a client may
/// have closed its sending half alone.
class client_watch {
public:
    client_watch(http_connection& c, time_point::duration after_end);
    ~client_watch() { stop(); }
    client_watch(const client_watch&) = delete;
    client_watch& operator=(const client_watch&) = delete;
    /// No cancel comes any more. True if one has come, and nobody else has cancelled the task.
    bool stop() noexcept;

private:
    http_connection& connection_;
    task<> watcher_;
};

// ---- in connection.cpp

/// What a client gets for a handler's exception.
http::response http_internal_error();

inline constexpr std::size_t read_size = 64 * 1024;

/// Serves a connection. It is the handler of the aio::server.
coro<> serve_connection(std::shared_ptr<http_server_state> server, stream client);

/// Waits for more bytes for the buffer: `nothing` when the time is up. A lost connection is no error, because nobody is
/// left to be told of it.
coro<read_outcome> read_more(http_connection& c, delay limit);

// ---- in sending.cpp

/// Writes what is held, in a task of its own. *self becomes null when the connection goes.
coro<> write_held(std::shared_ptr<http_connection*> self);

inline constexpr std::size_t write_size = 256 * 1024;

/// Writes what is held and the text, with a limit for each piece of write_size. False if the peer does not take it. A
/// peer that is too slow is reset: otherwise the kernel would keep unsent bytes for as long as the peer likes.
coro<bool> write_all(http_connection& c, std::string_view text);
/// True if a response may wait for the next one: the request behind it has come already, at least in part, and both
/// are small.
bool may_hold(const http_connection& c, const http::response& r, const response_form& form) noexcept;
/// Keeps a response that is text until another one is ready, or the loop looks for news: because the handler of the
/// next request waits for something, or more has to come from the client.
void hold_text(http_connection& c, const http::response& r, const response_form& form);
/// Sends a response that is text.
coro<bool> send_text(http_connection& c, const http::response& r, response_form form);
/// Makes a text a body of pieces, which may have trailers.
void make_pieces(http::response& r);
/// What a special body needs: chunks, for instance. Throws std::logic_error if it cannot be sent.
void choose_framing(const http::response& r, const http_special_body& body, response_form& form);
/// Sends a response with a special body, which is no upgrade. `what` is the request's line, for the exception handler.
coro<bool> send_special(http_connection& c, http::response& r, response_form form, std::string what);

/// Counts an error of the handler's, and tells the loop's exception handler.
void tell_of_error(http_server_state& server, const std::string& what, std::exception_ptr error);
inline void tell_of_error(http_connection& c, const std::string& what, std::exception_ptr error) {
    tell_of_error(c.server, what, std::move(error));
}

}  // namespace aio::inline v0::detail
