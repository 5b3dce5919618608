// A request of HTTP/2 on its way to the handler, and the response on its way back. nghttp2 calls back while the
// connection reads or writes; the handler runs in a task of its own, which goes on to send the pieces of a body that is
// no text. Between them stands one piece: nghttp2 takes it as the client's windows permit, and then the task makes the
// next one.

#include "http/server/http2_stream.hpp"

#include "http/access.hpp"
#include "http/server/http2_connection.hpp"
#include "http/server/response_head.hpp"

#include <aio/event_loop.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t file_piece = 128 * 1024;
// A client that cancels requests and sends others at once may have this many times max_concurrent_streams handlers,
// while those that were cancelled end.
constexpr std::size_t most_handlers = 2;
constexpr std::size_t least_progress = 16 * 1024;  // of a response, in write_timeout
constexpr int client_closed_request = 499;         // nginx's number, for the log alone

ssize_t read_data(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t length, std::uint32_t* flags,
    nghttp2_data_source* source, void* user_data) noexcept {
    try {
        return static_cast<http2_stream*>(source->ptr)->next_frame(length, *flags);
    } catch (...) { return static_cast<http2_connection*>(user_data)->caught(); }
}

}  // namespace

class http2_stream::task_end {
public:
    explicit task_end(std::shared_ptr<http2_stream> s) noexcept : stream(std::move(s)) {
        stream->connection->count_handler(true);
    }
    task_end(task_end&&) noexcept = default;
    task_end& operator=(task_end&&) = delete;
    ~task_end() {
        if (!stream) return;
        http2_connection& c = *stream->connection;
        if (stream->alive() && !stream->last_) c.reset(*stream, NGHTTP2_CANCEL);
        stream->handled_ = true;
        c.count_handler(false);
    }
    std::shared_ptr<http2_stream> stream;
};

bool http2_stream::alive() const noexcept { return self && !connection->failed(); }

// ---- the request

void http2_stream::take_head(bool body_follows) {
    http_server_state& server = connection->server();
    if (server.log) begin_ = connection->now();
    request_done = !body_follows;
    to_head_ = head.to_head();
    const int bad_status = head.check();
    if (bad_status != 0) return refuse(bad_status, head.why());
    if (connection->handlers() >= most_handlers * server.options.max_concurrent_streams)
        return connection->reset(*this, NGHTTP2_REFUSED_STREAM);
    name_ = head.name();
    continue_due_ = body_follows && head.expects_continue();
    http::request request = head.take(connection->peer());
    if (!body_follows) return start(std::move(request));
    pace_.begin();
    const bool unbuffered = server.handler.unbuffered && server.handler.unbuffered(request);
    reader_ = unbuffered ? reader::handler : reader::engine;
    if (head.content_length().value_or(0) > most_body()) return refuse_length();
    if (unbuffered) {
        http_access::set_source(request, self);
        return start(std::move(request));
    }
    request_ = std::move(request);
    if (continue_due_) say_continue();
    last_arrival_ = connection->last_look();
    connection->expect_body(*this);
}

std::uint64_t http2_stream::most_body() const noexcept {
    const http::server_options& options = connection->server().options;
    if (reader_ != reader::handler) return options.max_body_size;
    return options.max_stream_size > 0 ? options.max_stream_size : UINT64_MAX;
}

void http2_stream::take_body(std::string_view data) {
    if (reader_ == reader::nobody || bad_body_ != 0) return;
    body_bytes_ += data.size();
    if (reader_ == reader::handler) {
        if (body_bytes_ > most_body()) {
            bad_body_ = 413;
        } else {
            received_.append(data);
        }
        return arrived_.set();
    }
    if (body_bytes_ > most_body()) return refuse_length();
    received_.append(data);
    const time_point now = connection->last_look();
    pace_.waited(now - std::exchange(last_arrival_, now), data.size());
    const delay left = pace_.limit(connection->server().options);
    if (left && left.value().count() <= 0) return too_slow();
    connection->count_collected(*this, data.size());
}

void http2_stream::take_trailer(std::string_view name, std::string_view value) {
    if (reader_ == reader::nobody || !head.count(name, value)) return;  // they count as fields of the head do
    http_access::append(reader_ == reader::engine ? http_access::trailers(request_) : trailers, name, value);
}

void http2_stream::take_end() {
    if (std::exchange(request_done, true)) return;
    if (reader_ == reader::handler) return arrived_.set();
    if (reader_ == reader::nobody) return;
    connection->end_collected(*this, false);
    http_access::body(request_) = std::move(received_);
    reader_ = reader::nobody;
    start(std::move(request_));
}

void http2_stream::start(http::request request) {
    task_ = connection->begin_task(handle(task_end(self), std::move(request)));
    connection->count_request();
}

// Answers a request that cannot be handled. What still comes of its body is dropped.
void http2_stream::refuse(int status, const std::string& why) {
    ++connection->server().counts.refused_requests;
    reader_ = reader::nobody;
    received_ = {};
    connection->end_collected(*this, true);
    respond(http::response(
        status, std::string(http::reason(status)) + ": " + why + "\n", http::headers("Content-Type", "text/plain")));
}

void http2_stream::refuse_length() { refuse(413, "the body is longer than " + std::to_string(most_body()) + " bytes"); }

void http2_stream::say_continue() {
    continue_due_ = false;
    static std::uint8_t name[] = ":status", value[] = "100";
    const nghttp2_nv status = {name, value, 7, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    connection->check(
        nghttp2_submit_headers(connection->session(), NGHTTP2_FLAG_NONE, id, nullptr, &status, 1, nullptr));
    connection->wake_writer();
}

void http2_stream::closed(bool cancel_handler) noexcept {
    const std::shared_ptr<http2_stream> alive_until_end = std::move(self);
    self = nullptr;
    connection->end_collected(*this, true);
    if (!response_done && !cut_ && (task_ || begun_)) ++connection->server().counts.lost_clients;
    tell_log();
    if (!response_done && (handled_ || cancel_handler) && task_ && !task_.done()) {
        std::string message;
        try {
            message = "the client has cancelled the request";
        } catch (...) {  // no memory: the cancel goes on without its message
        }
        task_.cancel(std::move(message));
    }
    arrived_.set();
}

void http2_stream::tell_log() noexcept {
    const http_server_state& server = connection->server();
    if (!server.log) return;
    const std::string_view line = name_;
    const std::size_t space = std::min(line.find(' '), line.size());
    http::access_record record{};
    record.method = line.substr(0, space);
    record.target = line.substr(std::min(space + 1, line.size()));
    record.peer = connection->peer();
    record.version = http::version::v2;
    record.status = begun_ ? response_.status() : client_closed_request;
    record.complete = response_done;
    record.bytes_received = bytes_received;
    record.bytes_sent = bytes_sent;
    record.duration = connection->now() - begin_;
    try {
        (*server.log)(record);
    } catch (...) { connection->report("exception in the access log of an HTTP server", std::current_exception()); }
}

void http2_stream::throw_bad_body() const {
    if (bad_body_ == 400)
        throw http::error("the body of " + name_ + " is cut short: the client has gone, or cancelled it");
    if (bad_body_ == 408) throw timeout_error("the body of " + name_ + " did not come in time");
    throw http::error("the body of " + name_ + " is longer than " + std::to_string(most_body()) + " bytes");
}

coro<std::string> http2_stream::next() {
    for (;;) {
        if (!received_.empty()) {
            std::string piece = std::exchange(received_, {});
            if (alive()) connection->open_window(*this, piece.size());
            co_return piece;
        }
        if (bad_body_ != 0) throw_bad_body();
        if (request_done) co_return std::string();
        if (!alive()) {
            bad_body_ = 400;
            continue;
        }
        if (continue_due_ && !begun_) say_continue();
        const time_point begin = connection->now();
        const std::uint64_t before = body_bytes_;
        bool in_time = true;
        try {
            co_await wait_for(arrived_.wait("the body of a request"), pace_.limit(connection->server().options));
        } catch (const timeout_error&) { in_time = false; }
        if (!alive()) continue;
        pace_.waited(connection->now() - begin, static_cast<std::size_t>(body_bytes_ - before));
        if (!in_time && body_bytes_ == before && !request_done) bad_body_ = 408;
    }
}

// ---- the response

coro<> http2_stream::handle(task_end end, http::request request) {
    http2_stream& s = *end.stream;
    http2_connection& c = *s.connection;
    http::response r;
    std::exception_ptr error;
    try {
        r = co_await c.server().handler.call(std::move(request));
    } catch (const http::refusal& refusal) { r = http_response_of(refusal); } catch (const cancelled_error&) {
        throw;
    } catch (...) { error = std::current_exception(); }
    s.handled_ = true;
    if (error) r = s.answer_to(error);
    if (!s.alive()) co_return;  // the client has cancelled it
    error = nullptr;
    try {
        s.prepare(r);
        s.respond(std::move(r));
        if (http_access::special(s.response_)) co_await s.send_special();
    } catch (const cancelled_error&) { throw; } catch (...) {
        error = std::current_exception();
    }
    if (!error || !s.alive()) co_return;
    // The body is not whole, or there was no memory: the client sees that the response was cut.
    s.last_ = s.cut_ = true;
    c.reset(s, NGHTTP2_INTERNAL_ERROR);
    if (s.bad_body_ == 0) c.tell_of_error("the response to " + s.name_ + " was cut", error);
}

// What the client gets for an exception of the handler.
http::response http2_stream::answer_to(const std::exception_ptr& error) {
    if (bad_body_ != 0 && reader_ == reader::handler) {  // the handler was told of it, and has let it through
        ++connection->server().counts.refused_requests;
        return http::response(
            bad_body_, std::string(http::reason(bad_body_)) + "\n", http::headers("Content-Type", "text/plain"));
    }
    connection->tell_of_error("exception in the HTTP handler of " + name_, error);
    return http_internal_error();
}

// A response that cannot be sent becomes a 500.
void http2_stream::prepare(http::response& r) {
    std::exception_ptr error;
    const http_special_body* special = http_access::special(r).get();
    try {
        if (special && special->upgrade) throw std::logic_error("a request of HTTP/2 cannot upgrade its connection");
        if (special && !special->pieces && !special->source)
            throw std::logic_error("the body of this response has been sent already");
        if (special && special->pieces) promised_ = http_content_length(r);
        http_check_trailers(r);
        // nghttp2 would drop them without a word.
        check_http2_fields(r.headers(), "its header");
        check_http2_fields(http_access::trailers(r), "its trailer section");
    } catch (...) { error = std::current_exception(); }
    if (error) {
        connection->tell_of_error("the response to " + name_ + " cannot be sent", error);
        r = http_internal_error();
    }
    if (http_asks_to_close(r)) connection->leave();
}

// A body that is no text is left to send_special(), if it is to be sent: then last_ is false.
void http2_stream::respond(http::response r) {
    response_ = std::move(r);
    begun_ = true;
    const http_special_body* special = http_access::special(response_).get();
    const bool may_have_body = http_has_body(response_.status());
    http2_length length;
    if (!may_have_body) {
        length = 0;
    } else if (!special) {
        length = response_.text().size();
    } else if (special->source) {
        length = special->count;
    }
    const bool with_trailers = may_have_body && !to_head_ && http_may_have_trailers(response_);
    const bool has_body = may_have_body && !to_head_ && (length != http2_length(0) || with_trailers);
    const http2_fields fields(response_, to_head_, length, with_trailers);
    if (!special || !has_body) {
        if (has_body) to_send_ = response_.text();
        last_ = true;
    }
    nghttp2_data_provider body;
    body.source.ptr = this;
    body.read_callback = &read_data;
    connection->check(
        nghttp2_submit_response(connection->session(), id, fields.data(), fields.size(), has_body ? &body : nullptr));
    if (!to_send_.empty()) connection->expect_progress(*this);
    connection->wake_writer();
    if (connection->server().draining) server_closes();
}

void http2_stream::server_closes() noexcept {
    const std::shared_ptr<http_special_body>& special = http_access::special(response_);
    if (!special || !special->going_away) return;
    try {
        std::exchange(special->going_away, {})();
    } catch (...) {  // no memory: the stream goes on until drain() aborts it
    }
}

ssize_t http2_stream::next_frame(std::size_t most, std::uint32_t& flags) {
    const std::size_t n = std::min(most, to_send_.size());
    if (n == 0 && !last_) return NGHTTP2_ERR_DEFERRED;
    flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last_ && n == to_send_.size()) {
        flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!response_.trailers().empty()) {
            flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            const http2_fields fields(response_.trailers());
            connection->check(nghttp2_submit_trailer(connection->session(), id, fields.data(), fields.size()));
        }
    }
    return static_cast<ssize_t>(n);
}

void http2_stream::sent(std::size_t n) noexcept {
    to_send_.remove_prefix(n);
    if (!to_send_.empty()) {
        since_progress_ += n;
        if (since_progress_ < least_progress) return;  // a client that takes a byte now and then gains no time
        since_progress_ = 0;
        return connection->expect_progress(*this);
    }
    since_progress_ = 0;
    connection->expect_nothing(*this);
    if (!last_) taken_.set();
}

// Sends what is no text, or closes its generator if there is no body: the response to HEAD.
coro<> http2_stream::send_special() {
    http_special_body& body = *http_access::special(response_);
    if (body.source) {
        if (!last_) co_await send_file(*body.source, body.offset, body.count);
        co_return;
    }
    async_generator<std::string> pieces = std::move(*body.pieces);
    body.pieces.reset();
    co_await send_pieces(std::move(pieces));
}

coro<> http2_stream::send_pieces(async_generator<std::string> pieces) {
    std::exception_ptr error;
    if (!last_) {
        try {
            co_await send_all(pieces);
        } catch (...) { error = std::current_exception(); }
    }
    try {
        co_await pieces.aclose();
    } catch (...) {
        if (!error) error = std::current_exception();
    }
    if (error) std::rethrow_exception(error);
}

coro<> http2_stream::send_all(async_generator<std::string>& pieces) {
    std::uint64_t given = 0;
    while (auto piece = co_await pieces.next()) {
        if (piece->empty()) continue;
        given += piece->size();
        if (promised_ && given > *promised_)
            throw std::length_error("the body is longer than its Content-Length, " + std::to_string(*promised_));
        co_await offer(std::move(*piece));
    }
    if (promised_ && given < *promised_) {
        throw std::length_error("the body has " + std::to_string(given) + " bytes, and its Content-Length is " +
            std::to_string(*promised_));
    }
    http_take_trailers(response_);
    check_http2_fields(response_.trailers(), "its trailer section");
    finish();
}

coro<> http2_stream::send_file(aio::file& source, std::uint64_t offset, std::uint64_t count) {
    while (count > 0 && alive()) {
        const std::size_t most = static_cast<std::size_t>(std::min<std::uint64_t>(count, file_piece));
        std::string piece = co_await source.read_at(static_cast<std::int64_t>(offset), most);
        if (piece.empty()) throw std::length_error(source.path() + " has become shorter");
        offset += piece.size();
        count -= piece.size();
        if (count == 0) last_ = true;
        co_await offer(std::move(piece));
    }
}

// Completes when nghttp2 has taken the piece, and at once for the last one.
coro<> http2_stream::offer(std::string piece) {
    if (!alive()) co_return;
    piece_ = std::move(piece);
    to_send_ = piece_;
    connection->expect_progress(*this);
    connection->resume(*this);
    if (!last_) co_await taken_.wait("the client to take a piece of the response");
}

void http2_stream::finish() {
    if (!alive()) return;
    last_ = true;
    connection->resume(*this);
}

}  // namespace aio::inline v0::detail
