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
#include <charconv>
#include <utility>

namespace aio::detail {

namespace {

constexpr std::size_t file_piece = 128 * 1024;
// A client that cancels requests and sends others at once may have this many times max_concurrent_streams handlers,
// while those that were cancelled end.
constexpr std::size_t most_handlers = 2;

// The Content-Length that a handler has given its response.
std::optional<std::uint64_t> content_length_of(const http::response& r) {
    const std::string& text = r.headers()["Content-Length"];
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return length;
}

ssize_t read_data(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t length, std::uint32_t* flags,
    nghttp2_data_source* source, void* user_data) noexcept {
    try {
        return static_cast<http2_stream*>(source->ptr)->next_frame(length, *flags);
    } catch (...) { return static_cast<http2_connection*>(user_data)->caught(); }
}

}  // namespace

class http2_stream::task_end {
public:
    explicit task_end(std::shared_ptr<http2_stream> s) noexcept : stream(std::move(s)) {}
    task_end(task_end&&) noexcept = default;
    task_end& operator=(task_end&&) = delete;
    ~task_end() {
        if (stream && stream->alive() && !stream->last_) stream->connection->reset(*stream, NGHTTP2_CANCEL);
    }
    std::shared_ptr<http2_stream> stream;
};

bool http2_stream::alive() const noexcept { return self && !connection->failed(); }

void http2_stream::take_head(bool body_follows) {
    request_done = !body_follows;
    to_head_ = head.to_head();
    const int bad_status = head.check();
    if (bad_status != 0) return refuse(bad_status, head.why());
    http2_host& host = connection->host();
    if (connection->running() > most_handlers * host.max_streams())
        return connection->reset(*this, NGHTTP2_REFUSED_STREAM);
    name_ = head.name();
    continue_due_ = body_follows && head.expects_continue();
    const std::optional<std::uint64_t> length = head.content_length();
    http::request request = head.take(connection->peer());
    if (!body_follows) return start(std::move(request));
    if (host.unbuffered(request)) {
        reader_ = reader::handler;
        http_access::set_source(request, self);
        return start(std::move(request));
    }
    const std::size_t most = host.options().max_body_size;
    if (length && *length > most) return refuse(413, "the body is longer than " + std::to_string(most) + " bytes");
    reader_ = reader::engine;
    request_ = std::move(request);
    if (continue_due_) say_continue();
    connection->expect_body(*this);
}

void http2_stream::take_body(std::string_view data) {
    if (reader_ == reader::nobody) return;  // the response is on its way: the client will be told to stop
    body_bytes_ += data.size();
    if (reader_ == reader::handler) {
        received_.append(data);
        arrived_.set();
        return;
    }
    const std::size_t most = connection->host().options().max_body_size;
    if (body_bytes_ > most) return refuse(413, "the body is longer than " + std::to_string(most) + " bytes");
    received_.append(data);
    connection->count_collected(*this, data.size());
}

void http2_stream::take_trailer(std::string_view name, std::string_view value) {
    // They count as a header does. A handler that reads the body itself has the request already: it gets no trailers.
    if (reader_ == reader::engine && head.count(name, value))
        http_access::append(http_access::trailers(request_), name, value);
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

void http2_stream::too_slow() { refuse(408, "the request did not come in time"); }

void http2_stream::start(http::request request) {
    task_ = connection->begin_task(handle(task_end(self), std::move(request)));
}

// Answers a request that cannot be handled. What still comes of its body is dropped.
void http2_stream::refuse(int status, const std::string& why) {
    reader_ = reader::nobody;
    received_ = {};
    connection->end_collected(*this, true);
    respond(http::response(
        status, std::string(http::reason(status)) + ": " + why + "\n", http::headers("Content-Type", "text/plain")));
}

void http2_stream::say_continue() {
    continue_due_ = false;
    static std::uint8_t name[] = ":status", value[] = "100";
    const nghttp2_nv status = {name, value, 7, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    connection->check(
        nghttp2_submit_headers(connection->session(), NGHTTP2_FLAG_NONE, id, nullptr, &status, 1, nullptr));
    connection->wake_writer();
}

void http2_stream::closed() noexcept {
    const std::shared_ptr<http2_stream> alive = std::move(self);
    self = nullptr;
    connection->end_collected(*this, true);
    if (!response_done && task_ && !task_.done()) {
        std::string message;
        try {
            message = "the client has cancelled the request";
        } catch (...) {  // no memory: the cancel goes on without its message
        }
        task_.cancel(std::move(message));
    }
    arrived_.set();
}

coro<std::string> http2_stream::next() {
    for (;;) {
        if (!received_.empty()) {
            std::string piece = std::exchange(received_, {});
            if (alive()) connection->open_window(*this, piece.size());
            co_return piece;
        }
        if (request_done) co_return std::string();
        if (!alive()) throw http::error("the body of " + name_ + " is cut short: the client has gone, or cancelled it");
        if (continue_due_) say_continue();
        co_await wait_for(arrived_.wait("the body of a request"), connection->host().options().body_timeout);
    }
}

// ---- the response

// A body that is no text is left to send_special(), if it is to be sent: then last_ is false.
void http2_stream::respond(http::response r) {
    response_ = std::move(r);
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
    const http2_fields fields(response_, to_head_, length);
    const http::headers& trailers = http_access::trailers(response_);
    const bool has_body = may_have_body && !to_head_ && (length != http2_length(0) || !trailers.empty());
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
}

ssize_t http2_stream::next_frame(std::size_t most, std::uint32_t& flags) {
    const std::size_t n = std::min(most, to_send_.size());
    if (n == 0 && !last_) return NGHTTP2_ERR_DEFERRED;
    flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last_ && n == to_send_.size()) {
        flags |= NGHTTP2_DATA_FLAG_EOF;
        const http::headers& trailers = http_access::trailers(response_);
        if (!trailers.empty()) {
            flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            const http2_fields fields(trailers);
            connection->check(nghttp2_submit_trailer(connection->session(), id, fields.data(), fields.size()));
        }
    }
    return static_cast<ssize_t>(n);
}

void http2_stream::sent(std::size_t n) noexcept {
    to_send_.remove_prefix(n);
    if (!to_send_.empty()) return connection->expect_progress(*this);
    connection->expect_nothing(*this);
    if (!last_) taken_.set();
}

coro<> http2_stream::handle(task_end end, http::request request) {
    http2_stream& s = *end.stream;
    http2_connection& c = *s.connection;
    try {
        http::response r = co_await c.host().answer(std::move(request));
        if (!s.alive()) co_return;  // the client has cancelled it
        const http_special_body* special = http_access::special(r).get();
        if (special && special->upgrade) r = http::response(501, "Not Implemented: this upgrade needs HTTP/1.1\n");
        s.respond(std::move(r));
        if (http_access::special(s.response_)) co_await s.send_special();
    } catch (const cancelled_error&) { throw; } catch (...) {
        // A body that is not whole, or no memory: the client sees that the response was cut.
        if (!s.alive()) co_return;
        s.last_ = true;
        c.reset(s, NGHTTP2_INTERNAL_ERROR);
        c.report("the response to " + s.name_ + " was cut", std::current_exception());
    }
}

// Sends what is no text, or closes its generator if there is no body: the response to HEAD.
coro<> http2_stream::send_special() {
    const std::shared_ptr<http_special_body> body = http_access::special(response_);
    if (body->source) {
        if (!last_) co_await send_file(*body->source, body->offset, body->count);
        co_return;
    }
    if (!body->pieces) co_return;
    std::exception_ptr error;
    if (!last_) {
        try {
            co_await send_pieces(*body->pieces);
        } catch (...) { error = std::current_exception(); }
    }
    co_await body->pieces->aclose();
    if (error) std::rethrow_exception(error);
}

coro<> http2_stream::send_pieces(async_generator<std::string>& pieces) {
    const std::optional<std::uint64_t> length = content_length_of(response_);
    std::uint64_t given = 0;
    while (auto piece = co_await pieces.next()) {
        if (piece->empty()) continue;
        given += piece->size();
        if (length && given > *length) throw http::error("the body is longer than its Content-Length");
        co_await offer(std::move(*piece));
    }
    if (length && given < *length) throw http::error("the body is shorter than its Content-Length");
    finish();
}

coro<> http2_stream::send_file(aio::file& source, std::uint64_t offset, std::uint64_t count) {
    while (count > 0) {
        const std::size_t most = static_cast<std::size_t>(std::min<std::uint64_t>(count, file_piece));
        std::string piece = co_await source.read_at(static_cast<std::int64_t>(offset), most);
        if (piece.empty()) throw http::error("the file " + source.path() + " has become shorter");
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

}  // namespace aio::detail
