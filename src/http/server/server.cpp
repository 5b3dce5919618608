// The HTTP server behind http::serve and http::start_server: an aio::server whose handler is serve_connection, one task
// for each connection. It reads a request, awaits the user's handler, sends the response and reads the next request, so
// responses have the order of the requests and no lock is needed. A client that pipelines requests is answered one by
// one.
//
// A client may be slow, lost or hostile. So each wait for it has a limit, what cannot be handled is refused with a
// status that says why, and a connection that is closed with bytes unread lingers first: see linger().
//
// When the server is closed, connections that wait for a request are cancelled (drain_idle), and the others end with
// the response that is under way.

#include "http/access.hpp"
#include "http/server/request_parser.hpp"

#include <aio/event_loop.hpp>
#include <aio/http/server.hpp>
#include <aio/sleep.hpp>
#include <aio/stream.hpp>
#include <aio/task.hpp>
#include <aio/timeout.hpp>

#include <algorithm>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace aio::detail {

namespace {
struct http_connection;
}

/// What a server and its connections have in common.
class http_server_state {
public:
    http_handler handler;
    http::server_options options;
    list<list_node> connections;
    bool draining = false;

    void drain_idle() noexcept;
};

namespace {

using namespace std::chrono_literals;

constexpr std::size_t read_size = 64 * 1024;
constexpr std::size_t write_size = 256 * 1024;
constexpr auto most_silence = 5s;  // of a client whose connection is about to be closed
constexpr auto linger_of_a_closing_server = 1s;

/// A connection. It lies in the frame of the connection's task.
struct http_connection : list_node {
    http_connection(http_server_state& server, stream& s) : task(current_task()), client(s) {
        server.connections.push_back(*this);
    }
    ~http_connection() { unlink(); }

    any_task task;
    stream& client;
    std::string buffer;  // bytes that have come and that the parser has not taken
    bool idle = false;   // waits for a request, or lingers: a server that closes may cancel it
    bool ended = false;  // a server that closes has cancelled it
};

enum class read_outcome : std::uint8_t { bytes, end, nothing };

// Waits for more bytes for the buffer: `nothing` when the time is up. A lost connection counts as one at its end,
// because nobody is left to be told of an error.
coro<read_outcome> read_more(http_connection& c, delay limit) {
    std::string more;
    try {
        more = co_await wait_for(c.client.read(read_size), limit);
    } catch (const timeout_error&) { co_return read_outcome::nothing; } catch (const std::system_error&) {
        co_return read_outcome::end;
    }
    if (more.empty()) co_return read_outcome::end;
    if (c.buffer.empty()) {
        c.buffer = std::move(more);
    } else {
        c.buffer += more;
    }
    co_return read_outcome::bytes;
}

// Limits what the kernel keeps unsent. Otherwise it takes megabytes, and has no room for more until a third of them has
// gone, so a client that reads slowly, but in time, seems to stand still.
void keep_little_unsent(const stream& s) noexcept {
    const int most = write_size / 2;
    ::setsockopt(s.detail_state()->descriptor(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof most);
}

// Writes text, with a limit for each piece of write_size. False if the peer does not take it. A peer that is too slow
// is reset: otherwise the kernel would keep unsent bytes for as long as the peer likes.
coro<bool> write_all(http_connection& c, std::string_view text, delay limit) {
    try {
        while (!text.empty()) {
            const std::string_view piece = text.substr(0, write_size);
            co_await wait_for(c.client.write(piece), limit);
            text.remove_prefix(piece.size());
        }
    } catch (const timeout_error&) {
        c.client.abort();
        co_return false;
    } catch (const std::system_error&) { co_return false; }
    co_return true;
}

struct response_form {
    bool head_only = false;
    bool keep_alive = false;
    bool http_1_0 = false;
};

coro<bool> send(http_connection& c, const http::response& r, response_form form, delay limit) {
    std::string head = http_response_head(r, form.head_only, form.keep_alive, form.http_1_0);
    std::string_view body;
    if (!form.head_only && http_has_body(r.status())) body = r.text();
    if (body.size() <= write_size / 4) {
        head += body;
        body = {};
    }
    bool sent = co_await write_all(c, head, limit);
    if (sent && !body.empty()) sent = co_await write_all(c, body, limit);
    co_return sent;
}

// Reads and throws away what the peer is still sending, before the connection is closed: a connection that is closed
// with bytes unread is reset, and the reset overtakes the response. A client may send everything before it reads,
// however much that is, so the bound is time: linger_timeout for all of it, most_silence between two pieces. A server
// that is closing already waits only one second, and one that closes meanwhile cancels the wait.
coro<> linger(http_connection& c, const http_server_state& server) {
    c.client.write_eof();
    const delay most = server.draining ? delay(linger_of_a_closing_server) : server.options.linger_timeout;
    std::optional<time_point> until;
    if (most) until = most.from(get_running_loop().time());
    for (;;) {
        c.buffer.clear();
        delay limit = most_silence;
        if (until)
            limit = std::min<time_point::duration>(most_silence, detail::time_left(*until, get_running_loop().time()));
        c.idle = true;
        const read_outcome what = co_await read_more(c, limit);
        c.idle = false;
        if (what != read_outcome::bytes) co_return;
    }
}

// Answers a request that cannot be handled, and lingers. The connection cannot go on: the two sides do not agree on
// where the next request begins.
coro<> refuse(http_connection& c, const http_server_state& server, int status, std::string why) {
    const http::response r(
        status, std::string(http::reason(status)) + ": " + why + "\n", http::headers("Content-Type", "text/plain"));
    const bool sent = co_await send(c, r, response_form{}, server.options.write_timeout);
    if (sent) co_await linger(c, server);
}

/// How long a client may take for what is read next: idle_timeout until the first byte of a request, header_timeout for
/// the whole of its header, body_timeout for each piece of its body.
class read_limits {
public:
    explicit read_limits(const http::server_options& options) : options_(options) { start(options.idle_timeout); }
    delay limit_for(const http_request_parser& parser) {
        if (parser.header_done()) return options_.body_timeout;
        if (parser.begun() && !std::exchange(begun_, true)) start(options_.header_timeout);
        return deadline_ ? delay(*deadline_ - get_running_loop().time()) : delay(std::nullopt);
    }

private:
    void start(delay d) { deadline_ = d ? std::optional<time_point>(d.from(get_running_loop().time())) : std::nullopt; }
    const http::server_options& options_;
    std::optional<time_point> deadline_;  // for the first byte, then for the header; empty lines do not extend it
    bool begun_ = false;
};

// Reads the next request into the parser. False if there is none: the connection is at its end, or was refused.
coro<bool> read_request(http_connection& c, const http_server_state& server, http_request_parser& parser) {
    read_limits limits(server.options);
    bool continued = false;
    for (;;) {
        if (!c.buffer.empty()) c.buffer.erase(0, parser.feed(c.buffer));
        if (parser.bad_status() != 0) {
            co_await refuse(c, server, parser.bad_status(), parser.bad_reason());
            co_return false;
        }
        if (parser.complete()) co_return true;

        const bool begun = parser.begun();
        if (!begun && server.draining) co_return false;
        if (parser.header_done() && parser.expects_continue() && !std::exchange(continued, true)) {
            const bool sent = co_await write_all(c, "HTTP/1.1 100 Continue\r\n\r\n", server.options.write_timeout);
            if (!sent) co_return false;
        }
        c.idle = !begun;
        const read_outcome what = co_await read_more(c, limits.limit_for(parser));
        c.idle = false;
        if (begun && what == read_outcome::nothing) co_await refuse(c, server, 408, "the request did not come in time");
        if (what != read_outcome::bytes) co_return false;
    }
}

// Gives the handler's response, the one that it has thrown as a refusal, or a 500 if it throws something else; the
// loop's exception handler gets that error.
coro<http::response> answer(http_server_state& server, http::request request) {
    const std::string what = request.method() + " " + request.target();
    std::exception_ptr error;
    try {
        co_return co_await server.handler.call(std::move(request));
    } catch (const cancelled_error&) { throw; } catch (const http::refusal& refusal) {
        co_return http_response_of(refusal);
    } catch (...) { error = std::current_exception(); }
    get_running_loop().call_exception_handler({"exception in the HTTP handler of " + what, error, current_task()});
    co_return http::response(500, "Internal Server Error\n", http::headers("Content-Type", "text/plain"));
}

coro<> handle_requests(http_connection& c, http_server_state& server) {
    http_request_parser parser(server.options.max_header_size, server.options.max_body_size);
    for (;;) {
        const bool there_is_one = co_await read_request(c, server, parser);
        if (!there_is_one) co_return;
        response_form form;
        form.keep_alive = parser.keep_alive();
        form.http_1_0 = parser.is_http_1_0();
        http::request request = parser.take(c.client.peer());
        form.head_only = request.method() == "HEAD";
        const http::response r = co_await answer(server, std::move(request));
        if (server.draining || http_asks_to_close(r)) form.keep_alive = false;
        const bool sent = co_await send(c, r, form, server.options.write_timeout);
        if (!sent) co_return;
        if (!form.keep_alive) {
            if (!c.buffer.empty()) co_await linger(c, server);  // pipelined requests that will not be answered
            co_return;
        }
    }
}

coro<> serve_connection(std::shared_ptr<http_server_state> server, stream client) {
    http_connection c(*server, client);
    keep_little_unsent(client);
    try {
        co_await handle_requests(c, *server);
    } catch (const cancelled_error&) {
        if (!c.ended) throw;
        if (c.task.uncancel() > 0) throw;  // somebody else has cancelled the task, too
    }
    co_await client.aclose();
}

}  // namespace

void http_server_state::drain_idle() noexcept {
    draining = true;
    for (list_node* node = connections.front(); node; node = connections.after(*node)) {
        http_connection& c = static_cast<http_connection&>(*node);
        if (!c.idle || c.ended) continue;
        c.ended = true;
        std::string message;
        try {
            message = "the HTTP server is closing";
        } catch (...) {  // no memory: the cancel goes on without its message
        }
        c.task.cancel(std::move(message));
    }
}

coro<http::server> start_http_server(http_handler handler, std::string host, int port, http::server_options options) {
    auto state = std::make_shared<http_server_state>();
    state->handler = std::move(handler);
    state->options = options;
    aio::server_options listening;
    listening.backlog = options.backlog;
    listening.reuse_port = options.reuse_port;
    listening.limit = read_size;
    auto on_connection = [state](stream client) { return serve_connection(state, std::move(client)); };
    aio::server listener = co_await aio::start_server(std::move(on_connection), std::move(host), port, listening);
    co_return http::server(std::move(listener), std::move(state));
}

coro<> serve_http(http_handler handler, std::string host, int port, http::server_options options) {
    http::server server = co_await start_http_server(std::move(handler), std::move(host), port, options);
    co_await server.serve_forever();
}

}  // namespace aio::detail

namespace aio::http {

server::server(aio::server listening, std::shared_ptr<detail::http_server_state> state) noexcept
    : listening_(std::move(listening)), state_(std::move(state)) {}

void server::close() {
    listening_.close();
    state_->drain_idle();
}

detail::server_leaving server::exit(const std::exception_ptr& error) {
    if (state_) state_->draining = true;
    return listening_.exit(error);
}

coro<bool> server::drain(delay d) {
    close();
    return listening_.drain(d);
}

coro<> server::serve_forever() {
    const delay limit = state_->options.drain_timeout;
    std::exception_ptr cancelled;
    try {
        co_await sleep_forever();
    } catch (const cancelled_error&) { cancelled = std::current_exception(); }
    bool drained = false;
    try {
        co_await drain(limit);
        drained = true;
    } catch (const cancelled_error&) {  // a second cancel: the clients are aborted
    }
    if (!drained) {
        listening_.abort_clients();
        co_await listening_.exit(nullptr);  // a handler may be waiting for something else than its client
    }
    std::rethrow_exception(cancelled);
}

}  // namespace aio::http
