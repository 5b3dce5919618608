// A connection of HTTP/1: one task reads a request, awaits the user's handler, sends the response and reads the next
// request, so responses have the order of the requests and no lock is needed. Small responses to requests that have
// come together go out together: each waits for the next one as long as nobody waits for anything else (hold_text).
//
// A client may be slow, lost or hostile. So each wait for it has a limit, what cannot be handled is refused with a
// status that says why, and a connection that is closed with bytes unread lingers first: see linger().
//
// The body of a request is read before the handler is called, unless the handler reads it itself (request_body.cpp).
// Then the handler's first read sends the "100 Continue", and what it has not read at its end is dropped here.

#include "http/server/engine.hpp"

#include "http/access.hpp"
#include "http/server/http2.hpp"
#include "loop/loop_state.hpp"

#include <aio/errors.hpp>
#include <aio/event_loop.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <chrono>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace aio::inline v0::detail {

using namespace std::chrono_literals;

namespace {

constexpr auto most_silence = 5s;                 // of a client whose connection is about to be closed
constexpr auto short_linger = 1s;                 // of a server that closes, or has too many connections
constexpr std::size_t most_dropped = 256 * 1024;  // of a body that a handler has not read
constexpr std::size_t most_kept_buffer = 4096;    // of an idle connection
constexpr int client_closed_request = 499;        // nginx's number, for the log alone

}  // namespace

http::response http_internal_error() {
    return http::response(500, "Internal Server Error\n", http::headers("Content-Type", "text/plain"));
}

namespace {

void cancel_because_of_close(any_task& task) noexcept {
    std::string message;
    try {
        message = "the HTTP server is closing";
    } catch (...) {  // no memory: the cancel goes on without its message
    }
    task.cancel(std::move(message));
}

}  // namespace

http_connection::http_connection(http_server_state& s, stream c)
    : server(s),
      client(std::move(c)),
      task(current_task()),
      peer(client.peer()),
      parser(s.options.max_header_size, s.options.max_body_size, s.options.max_header_count) {
    server.connections.push_back(*this);
}

http_connection::~http_connection() {
    if (body) body->leave();
    if (flush_.linked()) flush_.unlink();
    if (self_) *self_ = nullptr;
    if (flusher_) flusher_.cancel();
}

void http_connection::flush_later() {
    if (!flush_.linked()) get_running_loop().core().state().unflushed.push_back(flush_);
}

void http_connection::held_flush::flush() noexcept {
    try {
        if (!connection.self_) connection.self_ = std::make_shared<http_connection*>(&connection);
        connection.flusher_ = create_task(write_held(connection.self_));
    } catch (...) {  // no memory: it is sent with the next response
    }
}

void http_connection::server_closes() noexcept {
    if (ended || (!idle && !going_away)) return;
    if (function<void()>* const tell = std::exchange(going_away, nullptr)) {
        try {
            return (*tell)();
        } catch (...) {  // the cancel tells it, too
        }
    }
    ended = true;
    cancel_because_of_close(task);
}

void http_connection::take(std::size_t bytes) noexcept {
    taken += bytes;
    if (taken < buffer.size()) return;
    if (buffer.capacity() > most_kept_buffer) {
        buffer = std::string();
    } else {
        buffer.clear();
    }
    taken = 0;
}

void http_connection::received(std::string more) {
    bytes_received += more.size();
    server.counts.bytes_received += more.size();
    if (unread().empty()) {
        buffer = std::move(more);
    } else {
        buffer.erase(0, taken);
        buffer += more;
    }
    taken = 0;
}

coro<read_outcome> read_more(http_connection& c, delay limit) {
    std::string more;
    try {
        more = co_await wait_for(c.client.read(read_size), limit);
    } catch (const timeout_error&) { co_return read_outcome::nothing; } catch (const std::system_error&) {
        co_return read_outcome::lost;
    }
    if (more.empty()) co_return read_outcome::end;
    c.received(std::move(more));
    co_return read_outcome::bytes;
}

namespace {

// Limits what the kernel keeps unsent. Otherwise it takes megabytes, and has no room for more until a third of them has
// gone, so a client that reads slowly, but in time, seems to stand still.
void keep_little_unsent(const stream& s) noexcept {
    const int most = write_size / 2;
    ::setsockopt(s.detail_state()->descriptor(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof most);
}

// Reads and throws away what the peer is still sending, before the connection is closed: a connection that is closed
// with bytes unread is reset, and the reset overtakes the response. A client may send everything before it reads,
// however much that is, so the bound is time: `most` for all of it, most_silence between two pieces. A server that is
// closing already waits only one second, and one that closes meanwhile cancels the wait.
coro<> linger(http_connection& c, delay most) {
    c.client.write_eof();
    std::optional<time_point> until;
    if (most) until = most.from(get_running_loop().time());
    for (;;) {
        c.buffer.clear();
        c.taken = 0;
        delay limit = most_silence;
        if (until)
            limit = std::min<time_point::duration>(most_silence, detail::time_left(*until, get_running_loop().time()));
        c.idle = true;
        const read_outcome what = co_await read_more(c, limit);
        c.idle = false;
        if (what != read_outcome::bytes) co_return;
    }
}
coro<> linger(http_connection& c) {
    return linger(c, c.server.draining ? delay(short_linger) : c.server.options.linger_timeout);
}

// ---- the log

/// A request that is being answered, as the log and the exception handler are told of it.
struct answered {
    std::string line;  // "GET /path"
    http::version version = http::version::v1_1;
    std::optional<time_point> begin;
    std::uint64_t sent_before = 0;
    std::uint64_t received_before = 0;
    bool must_continue = false;  // the client waits for a "100 Continue"
    bool told = false;           // to the log

    void next(const http_connection& c) noexcept {
        line.clear();
        begin.reset();
        told = false;
        sent_before = c.bytes_sent;
        received_before = c.bytes_received;
    }
};

void tell_log(http_connection& c, answered& a, int status, bool complete) {
    if (!c.server.log) return;
    a.told = true;
    const std::string_view line = a.line;
    const std::size_t space = std::min(line.find(' '), line.size());
    http::access_record record{};
    record.method = line.substr(0, space);
    record.target = line.substr(std::min(space + 1, line.size()));
    record.peer = c.peer;
    record.version = a.version;
    record.status = status;
    record.complete = complete;
    record.bytes_received = c.bytes_received - a.received_before;
    record.bytes_sent = c.bytes_sent - a.sent_before;
    if (a.begin) record.duration = get_running_loop().time() - *a.begin;
    try {
        (*c.server.log)(record);
    } catch (...) {
        get_running_loop().call_exception_handler(
            {"exception in the access log of an HTTP server", std::current_exception(), c.task});
    }
}

// Tells the log of a request, also of one that ends in another way than by its response: the client, or this side,
// has cut it.
struct log_guard {
    http_connection& c;
    answered& a;
    int status = client_closed_request;  // of the response, once there is one
    std::uint64_t sent_before = c.bytes_sent;

    log_guard(http_connection& connection, answered& request) noexcept : c(connection), a(request) {}
    log_guard(const log_guard&) = delete;
    log_guard& operator=(const log_guard&) = delete;
    /// The response was sent. An upgrade has told the log itself.
    void sent() {
        if (!a.told) tell_log(c, a, status, true);
    }
    ~log_guard() {
        if (a.begin && !a.told) tell_log(c, a, c.bytes_sent == sent_before ? client_closed_request : status, false);
    }
};

// Answers a request that cannot be handled, and lingers. The connection cannot go on: the two sides do not agree on
// where the next request begins.
coro<> refuse(http_connection& c, answered& a, int status, std::string why) {
    ++c.server.counts.refused_requests;
    const http::response r(
        status, std::string(http::reason(status)) + ": " + why + "\n", http::headers("Content-Type", "text/plain"));
    const bool sent = co_await send_text(c, r, response_form{});
    tell_log(c, a, status, sent);
    if (sent) co_await linger(c);
}

// ---- reading requests

/// How long a client may take for the header of a request: idle_timeout until its first byte, header_timeout for the
/// whole of it.
class head_limits {
public:
    explicit head_limits(const http::server_options& options) : options_(options) { start(options.idle_timeout); }
    delay limit_for(const http_request_parser& parser) {
        if (parser.begun() && !std::exchange(begun_, true)) start(options_.header_timeout);
        return deadline_ ? delay(*deadline_ - get_running_loop().time()) : delay(std::nullopt);
    }

private:
    void start(delay d) { deadline_ = d ? std::optional<time_point>(d.from(get_running_loop().time())) : std::nullopt; }
    const http::server_options& options_;
    std::optional<time_point> deadline_;  // for the first byte, then for the header; empty lines do not extend it
    bool begun_ = false;
};

// Reads the header of the next request into the parser. False if there is none: the connection is at its end, or was
// refused.
coro<bool> read_head(http_connection& c, answered& a) {
    head_limits limits(c.server.options);
    for (;;) {
        c.take(c.parser.feed_head(c.unread()));
        if (c.parser.bad_status() != 0) {
            co_await refuse(c, a, c.parser.bad_status(), c.parser.bad_reason());
            co_return false;
        }
        if (c.parser.header_done()) co_return true;
        if (!c.held.empty()) {
            const bool sent = co_await write_all(c, {});
            if (!sent) co_return false;
        }
        const bool begun = c.parser.begun();
        if (!begun && c.server.draining) co_return false;
        c.idle = !begun;
        const read_outcome what = co_await read_more(c, limits.limit_for(c.parser));
        c.idle = false;
        if (begun && what == read_outcome::nothing) co_await refuse(c, a, 408, "the request did not come in time");
        if (what != read_outcome::bytes) co_return false;
    }
}

// Waits for more of a body.
coro<read_outcome> read_body_bytes(http_connection& c) {
    const time_point begin = get_running_loop().time();
    const std::uint64_t before = c.bytes_received;
    const read_outcome what = co_await read_more(c, c.pace.limit(c.server.options));
    c.pace.waited(get_running_loop().time() - begin, static_cast<std::size_t>(c.bytes_received - before));
    co_return what;
}

// Reads the rest of the body. False as for read_head().
coro<bool> read_body(http_connection& c, answered& a, bool must_continue) {
    while (!c.parser.complete()) {
        if (std::exchange(must_continue, false)) {
            const bool sent = co_await write_all(c, "HTTP/1.1 100 Continue\r\n\r\n");
            if (!sent) co_return false;
        }
        const read_outcome what = co_await read_body_bytes(c);
        if (what == read_outcome::nothing) c.parser.refuse(408, "the request did not come in time");
        if (what == read_outcome::end || what == read_outcome::lost) co_return false;
        c.take(c.parser.feed(c.unread()));
        if (c.parser.bad_status() != 0) {
            co_await refuse(c, a, c.parser.bad_status(), c.parser.bad_reason());
            co_return false;
        }
    }
    co_return true;
}

/// What has to be done before the handler is called.
enum class next_step : std::uint8_t { handle, read_body, refuse };

// What comes between the header of a request and its body.
next_step begin_body(http_connection& c, http::request& request, bool must_continue) {
    if (c.parser.complete()) return next_step::handle;
    const bool unbuffered = c.server.handler.unbuffered && c.server.handler.unbuffered(request);
    const std::uint64_t most = c.server.options.max_stream_size;
    if (unbuffered) c.parser.limit_body(most > 0 ? most : UINT64_MAX);
    c.pace.begin();
    c.take(c.parser.feed(c.unread()));
    if (c.parser.bad_status() != 0) return next_step::refuse;
    if (c.parser.complete()) return next_step::handle;
    if (!unbuffered) return next_step::read_body;
    http_access::body(request) = c.parser.take_piece();
    c.body = std::make_shared<http1_body>(c, must_continue && http_access::body(request).empty());
    http_access::set_source(request, c.body);
    return next_step::handle;
}

void take_body(http_connection& c, http::request& request) {
    if (c.body) return;
    http_access::body(request) = c.parser.take_piece();
    http_access::trailers(request) = c.parser.take_trailers();
}

// Takes the request whose header has come.
next_step take_request(http_connection& c, http::request& request, response_form& form, answered& a) {
    form.keep_alive = c.parser.keep_alive();
    form.http_1_0 = c.parser.is_http_1_0();
    const bool must_continue = c.parser.expects_continue();
    request = c.parser.take_head(c.peer);
    form.head_only = request.method() == "HEAD";
    a.line.assign(request.method()).append(" ").append(request.target());
    a.version = request.version();
    if (c.server.log) a.begin = get_running_loop().time();
    const next_step next = begin_body(c, request, must_continue);
    if (next == next_step::handle) take_body(c, request);
    a.must_continue = must_continue;
    return next;
}

// Reads the rest of a request, unless its handler does, or refuses it. What is held goes out before that: the client
// may wait for it, or get a "100 Continue". False as for read_head().
coro<bool> read_rest(http_connection& c, http::request& request, answered& a, next_step next) {
    if (next == next_step::refuse) {
        co_await refuse(c, a, c.parser.bad_status(), c.parser.bad_reason());
        co_return false;
    }
    if (!c.held.empty()) {
        const bool sent = co_await write_all(c, {});
        if (!sent) co_return false;
    }
    if (next == next_step::handle) co_return true;
    const bool whole = co_await read_body(c, a, a.must_continue);
    if (whole) take_body(c, request);
    co_return whole;
}

// ---- answering them

/// Counts a request while its handler runs and its response is sent.
class active_request {
public:
    explicit active_request(http_server_state& server) noexcept : server_(server) {
        ++server_.counts.requests;
        ++server_.counts.active;
    }
    ~active_request() { --server_.counts.active; }
    active_request(const active_request&) = delete;
    active_request& operator=(const active_request&) = delete;

private:
    http_server_state& server_;
};

/// What became of a handler.
struct handled {
    http::response response;
    std::exception_ptr error;
    bool client_left = false;
};

// True if what is left of the body may be dropped after the response, so that the connection goes on. A client that
// waits for a "100 Continue" may send its body or not: nobody knows then where the next request begins.
bool may_drop_body(http_connection& c) {
    if (!c.body || c.parser.complete()) return true;
    if (c.body->must_continue() || c.parser.bad_status() != 0) return false;
    return c.parser.is_chunked() || c.parser.body_bytes_left() <= most_dropped;
}

// Drops what the handler has not read of the body. False if that is too much.
coro<bool> drop_body(http_connection& c) {
    for (std::size_t dropped = 0; !c.parser.complete();) {
        c.take(c.parser.feed(c.unread()));
        dropped += c.parser.take_piece().size();
        if (c.parser.complete()) break;
        if (c.parser.bad_status() != 0 || dropped > most_dropped) co_return false;
        const read_outcome what = co_await read_body_bytes(c);
        if (what != read_outcome::bytes) co_return false;
    }
    co_return true;
}

void put_back(const stream& s, std::string_view bytes) {
    byte_buffer& buffer = s.detail_state()->buffer;
    const std::string behind = buffer.take(buffer.size());
    char* const room = buffer.room_for(bytes.size() + behind.size());
    std::copy(behind.begin(), behind.end(), std::copy(bytes.begin(), bytes.end(), room));
    buffer.filled(bytes.size() + behind.size());
}

/// A connection that leaves HTTP/1, and what it goes on with. All that HTTP/1 has needed is gone by then: an upgraded
/// connection may last for days.
struct handover {
    stream client;                               // empty: the connection has ended
    std::string first;                           // before HTTP/2: bytes that have been read from the client already
    std::shared_ptr<http_special_body> upgrade;  // null: HTTP/2
    std::string line;                            // of the request that has upgraded the connection
    bool told = false;                           // that the server closes
};

// Accepts an upgrade, and hands the connection on, with what the client has sent behind its request.
coro<> upgrade(http_connection& c, http::response& r, const response_form& form, answered& a, handover& next) {
    const std::shared_ptr<http_special_body> special = http_access::special(r);
    if (special->going_away) c.going_away = &special->going_away;
    std::string head;
    append_response_head(head, r, form);
    const bool sent = co_await write_all(c, head);
    next.told = special->going_away && !std::exchange(c.going_away, nullptr);
    tell_log(c, a, r.status(), sent);
    if (!sent) co_return;
    if (!c.unread().empty()) put_back(c.client, c.unread());
    next.line = a.line;
    next.client = std::move(c.client);
    next.upgrade = special;
}

/// An upgraded connection. A server that closes tells the upgrade, or cancels the task.
class upgraded_connection final : public served_connection {
public:
    upgraded_connection(http_server_state& server, http_special_body& upgrade, bool told)
        : upgrade_(upgrade), task_(current_task()), told_(told) {
        server.connections.push_back(*this);
    }
    void server_closes() noexcept override {
        if (std::exchange(told_, true)) return;
        if (upgrade_.going_away) {
            try {
                return upgrade_.going_away();
            } catch (...) {  // the cancel tells it, too
            }
        }
        ended_ = true;
        cancel_because_of_close(task_);
    }
    /// After a cancel: true if server_closes() has sent it, and nobody else has sent one.
    bool was_ended() noexcept { return ended_ && task_.uncancel() == 0; }

private:
    http_special_body& upgrade_;
    any_task task_;
    bool told_;
    bool ended_ = false;
};

coro<> serve_upgrade(http_server_state& server, handover& next) {
    std::exception_ptr error;
    upgraded_connection connection(server, *next.upgrade, next.told);
    if (server.draining) connection.server_closes();  // while the head was sent
    try {
        co_await next.upgrade->upgrade(std::move(next.client));
    } catch (...) { error = std::current_exception(); }
    if (!error) co_return;
    if (!is_cancelled(error)) {
        tell_of_error(server, "exception behind the upgraded connection of " + next.line, error);
    } else if (!connection.was_ended()) {
        std::rethrow_exception(error);
    }
}

// Decides how the response is sent. One that cannot be sent becomes a 500.
void prepare(http_connection& c, http::response& r, response_form& form, const answered& a) {
    std::exception_ptr error;
    const bool has_trailers = !r.trailers().empty();
    if (has_trailers && !http_access::special(r) && http_has_body(r.status()) && !form.http_1_0 && !form.head_only)
        make_pieces(r);
    const auto& special = http_access::special(r);
    const bool upgrades = special && special->upgrade;
    try {
        if (has_trailers) http_check_trailers(r);
        if (special) choose_framing(r, *special, form);
        if (upgrades && !c.parser.complete())
            throw std::logic_error("a request whose body was not read cannot upgrade its connection");
    } catch (...) { error = std::current_exception(); }
    if (error) {
        tell_of_error(c, "the response to " + a.line + " cannot be sent", error);
        r = http_internal_error();
    } else if (upgrades && c.server.draining) {
        r = http::response(503, "the server is closing\n", http::headers("Content-Type", "text/plain"));
    }
    if (!http_access::special(r)) form.framing = body_framing::text;
    const std::size_t most = c.server.options.max_requests_per_connection;
    if (c.server.draining || (most > 0 && c.requests >= most) || http_asks_to_close(r) || !may_drop_body(c))
        form.keep_alive = false;
}

// Sends a response with a special body. False if the client has not got it, or the connection was handed on.
coro<bool> respond(http_connection& c, http::response& r, response_form form, answered& a, handover& next) {
    if (form.framing == body_framing::upgrade) {
        co_await upgrade(c, r, form, a, next);
        co_return false;
    }
    http_special_body& special = *http_access::special(r);
    if (special.going_away) c.going_away = &special.going_away;
    if (c.server.draining) c.server_closes();
    const bool sent = co_await send_special(c, r, form, a.line);
    c.going_away = nullptr;
    co_return sent;
}

// After a response: drops what is left of the body, or lingers. False if the connection cannot go on.
coro<bool> finish(http_connection& c, bool goes_on) {
    if (c.body) {
        const bool read_elsewhere = c.body->is_read_now();  // in another task, which closing the connection ends
        c.body->leave();
        c.body = nullptr;
        if (read_elsewhere) co_return false;
        if (goes_on) goes_on = co_await drop_body(c);
    }
    if (!goes_on && (!c.unread().empty() || !c.parser.complete())) co_await linger(c);
    co_return goes_on;
}

coro<> call_handler(http_connection& c, http::request& request, handled& outcome) {
    std::optional<client_watch> watch;
    if (c.server.options.cancel_on_disconnect && c.parser.complete()) watch.emplace(c, 0s);
    try {
        outcome.response = co_await c.server.handler.call(std::move(request));
    } catch (const http::refusal& refusal) { outcome.response = http_response_of(refusal); } catch (...) {
        outcome.error = std::current_exception();
    }
    outcome.client_left = watch && watch->stop();
}

/// What to do when the handler has ended.
enum class verdict : std::uint8_t { respond, refuse, leave };

verdict judge(http_connection& c, handled& outcome, answered& a) {
    if (outcome.client_left) {
        ++c.server.counts.lost_clients;
        tell_log(c, a, client_closed_request, false);
        return verdict::leave;
    }
    if (!outcome.error) return verdict::respond;
    if (is_cancelled(outcome.error)) std::rethrow_exception(outcome.error);
    if (c.body && c.parser.bad_status() != 0) return verdict::refuse;  // the handler has let the body's error through
    tell_of_error(c, "exception in the HTTP handler of " + a.line, outcome.error);
    outcome.response = http_internal_error();
    return verdict::respond;
}

coro<> leave(http_connection& c, answered& a, verdict v) {
    if (v == verdict::refuse) co_await refuse(c, a, c.parser.bad_status(), c.parser.bad_reason());
}

coro<> serve_requests(http_connection& c, handover& next_owner) {
    for (answered a;; a.next(c), c.parser.next()) {
        c.head_sent = false;
        const bool there = co_await read_head(c, a);
        if (!there) co_return;
        log_guard log(c, a);
        http::request request;
        response_form form;
        if (const next_step next = take_request(c, request, form, a); c.body || next != next_step::handle) {
            const bool goes_on = co_await read_rest(c, request, a, next);
            if (!goes_on) co_return;
        }

        const active_request active(c.server);
        ++c.requests;
        handled outcome;
        co_await call_handler(c, request, outcome);
        const verdict v = judge(c, outcome, a);
        if (v != verdict::respond) {
            co_await leave(c, a, v);
            co_return;
        }

        prepare(c, outcome.response, form, a);
        log.status = outcome.response.status();
        log.sent_before = c.bytes_sent;
        bool sent = true;
        if (may_hold(c, outcome.response, form)) {
            hold_text(c, outcome.response, form);
        } else if (http_access::special(outcome.response)) {
            sent = co_await respond(c, outcome.response, form, a, next_owner);
        } else {
            sent = co_await send_text(c, outcome.response, form);
        }
        if (!sent) co_return;
        log.sent();
        if (c.body || !form.keep_alive) {
            const bool goes_on = co_await finish(c, form.keep_alive);
            if (!goes_on) co_return;
        }
    }
}

coro<> refuse_connection(http_connection& c) {
    ++c.server.counts.refused_connections;
    const http::response r(503, "Service Unavailable: too many connections\n",
        http::headers("Content-Type", "text/plain", "Retry-After", "1"));
    const bool sent = co_await send_text(c, r, response_form{});
    if (sent) co_await linger(c, short_linger);
}

/// Counts a connection against max_connections.
class served_count {
public:
    explicit served_count(http_server_state& server) noexcept : server_(server) {
        ++server_.counts.accepted;
        server_.open->fetch_add(1, std::memory_order_relaxed);
    }
    ~served_count() { server_.open->fetch_sub(1, std::memory_order_relaxed); }
    served_count(const served_count&) = delete;
    served_count& operator=(const served_count&) = delete;
    bool too_many() const noexcept {
        return server_.options.max_connections > 0 &&
            server_.open->load(std::memory_order_relaxed) > server_.options.max_connections;
    }

private:
    http_server_state& server_;
};

// What a connection speaks. TLS has agreed on it; or the client knows beforehand that HTTP/2 is spoken here, and begins
// with what is no request of HTTP/1 (RFC 9113, 3.3).
enum class spoken : std::uint8_t { nothing, http1, http2 };

bool agreed_on_http2(const stream& client) {
    const std::optional<tls_info> tls = client.tls();
    return tls && tls->alpn == "h2";
}

coro<spoken> find_out(http_connection& c) {
    if (!c.server.options.http2) co_return spoken::http1;
    const std::optional<tls_info> tls = c.client.tls();
    if (tls && !tls->alpn.empty()) co_return spoken::http1;  // or it would not have come here
    for (;;) {
        const std::string_view begin = c.unread().substr(0, http2_preface.size());
        if (begin == http2_preface) co_return spoken::http2;
        if (!http2_preface.starts_with(begin)) co_return spoken::http1;
        if (begin.empty() && c.server.draining) co_return spoken::nothing;
        c.idle = begin.empty();
        const http::server_options& options = c.server.options;
        const read_outcome what = co_await read_more(c, c.idle ? options.idle_timeout : options.header_timeout);
        c.idle = false;
        if (what != read_outcome::bytes) co_return c.unread().empty() ? spoken::nothing : spoken::http1;
    }
}

// Serves the connection as long as it speaks HTTP/1. What it goes on with is in `next` then.
coro<> serve_http1(http_server_state& server, bool too_many, handover& next) {
    http_connection c(server, std::move(next.client));
    try {
        if (too_many) {
            co_await refuse_connection(c);
        } else {
            const spoken what = co_await find_out(c);
            if (what == spoken::http2) {
                next.first = c.unread();
                next.client = std::move(c.client);
                co_return;
            }
            if (what == spoken::http1) co_await serve_requests(c, next);
        }
    } catch (const cancelled_error&) {
        if (!c.ended) throw;
        if (c.task.uncancel() > 0) throw;  // somebody else has cancelled the task, too
    }
    if (c.client) co_await c.client.aclose();
}

}  // namespace

coro<> serve_connection(std::shared_ptr<http_server_state> server, stream client) {
    const served_count count(*server);
    keep_little_unsent(client);
    handover next;
    next.client = std::move(client);
    if (!agreed_on_http2(next.client)) {
        co_await serve_http1(*server, count.too_many(), next);
    } else if (count.too_many()) {
        ++server->counts.refused_connections;
        co_await next.client.aclose();
        co_return;
    }
    if (next.upgrade) {
        co_await serve_upgrade(*server, next);
    } else if (next.client) {
        co_await serve_http2(*server, std::move(next.client), std::move(next.first));
    }
}

}  // namespace aio::inline v0::detail
