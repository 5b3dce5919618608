// A connection of HTTP/2 has a task that reads, a task that writes, and a task for each request (http2_stream.cpp).
// nghttp2 has the state of the protocol: the reader feeds it what comes, and its callbacks begin and end streams; the
// writer asks it for frames. It is called on the loop's thread alone, and never from its own callbacks but as it
// allows.
//
// The writer collects frames into one buffer, and writes that: the responses to all the requests that one read has
// brought go out together. nghttp2 chooses among the streams in turn, a frame of each; a client's wishes for priorities
// are not heard. While a write waits for the client, nothing is asked of nghttp2, and if too much is in its queue,
// nothing is read either.
//
// Deadlines have one timer. Each kind of deadline has a list, in which the earliest is the first, because all in it are
// equally far away when they begin. The timer is set again only for an earlier deadline, so that requests that are
// answered in time do not touch it.
//
// What a client may do in masses is limited here, where nghttp2 does not:
// * Requests that are cancelled, by the client or by what it has done wrong (CVE-2023-44487 and CVE-2025-8671), are
//   weighed against those that were answered, and so are handlers that still run for them.
// * Frames that cost more than they bring (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA) are weighed against
//   requests and data.
// * A header has so many CONTINUATION frames (CVE-2024-28182) and so many bytes, unpacked.
// * Collected bodies are counted together: see count_collected().
//
// No exception may pass through nghttp2: a callback keeps it in error_, and the connection ends with it.

#include "http/server/http2_connection.hpp"

#include <aio/event_loop.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace aio::inline v0::detail {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kept_when_idle = 16 * 1024;  // of the buffer for frames
constexpr std::size_t most_queued_frames = 2000;
constexpr auto most_silence = 5s;  // of a client that has been told of the end
constexpr auto silence_of_a_closing_server = 1s;
constexpr auto pause_before_reset = 100ms;
constexpr auto round_trip = 1s;  // the most that a server that closes waits for the answer to its PING

// Requests may be cancelled in bursts, and more of them if others are answered.
constexpr std::int64_t given_up_at_once = 200, given_up_a_second = 20;
constexpr std::int64_t nuisance_a_second = 100;

}  // namespace

http2_connection::http2_connection(http_server_state& server, stream client)
    : client_(std::move(client)),
      server_(&server),
      loop_(&require_loop()),
      peer_(client_.peer()),
      given_up_(given_up_at_once, given_up_a_second),
      nuisance_(nuisance_at_once, nuisance_a_second),
      now_(loop_->now()) {
    given_up_.begin(now_);
    nuisance_.begin(now_);
    timer_.owner = this;
    timer_.fire = [](timer_node& t) noexcept { static_cast<deadline_timer&>(t).owner->on_deadline(); };
    head_until_ = after(server.options.header_timeout);  // for the client's first SETTINGS
    idle_until_ = after(server.options.idle_timeout);
    due(next_deadline());
    server.connections.push_back(*this);
}

http2_connection::~http2_connection() {
    loop_->disarm(timer_);
    close_streams(true);
    end_session();
}

// Once nghttp2 has been without memory, some of its structures are freed twice or used after that: then it is not
// called any more, not even to delete the session. Its memory is given back as a whole.
void http2_connection::end_session() noexcept {
    if (session_ && !memory_.failed()) nghttp2_session_del(session_);
    session_ = nullptr;
}

// ---- reading

coro<> http2_connection::run(std::string first) {
    make_session();
    if (server_->draining) drain();
    tasks_.create_task(write_all(writer_end(*this)));
    if (!first.empty()) feed(first);
    to_write_.set();
    while (!failed_) {
        while (congested()) co_await room_.wait("a client of HTTP/2 to take its responses");
        std::string bytes;
        try {
            bytes = co_await client_.read(read_size);
        } catch (const std::system_error&) { break; }
        if (bytes.empty()) break;
        server_->counts.bytes_received += bytes.size();
        feed(bytes);
    }
    failed_ = true;
    if (error_) std::rethrow_exception(error_);
}

void http2_connection::feed(std::string_view data) {
    if (terminated_ || finished_ || failed_) return;
    now_ = loop_->now();
    const ssize_t result =
        nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(data.data()), data.size());
    if (result < 0 && !terminated_) {
        if (result == NGHTTP2_ERR_NOMEM || result == NGHTTP2_ERR_CALLBACK_FAILURE) {
            fail(error_ ? error_ : std::make_exception_ptr(std::bad_alloc()));
        } else {
            terminate(result == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
        }
    }
    if (nghttp2_session_want_write(session_) || !nghttp2_session_want_read(session_)) wake_writer();
}

// True while a client sends what has to be answered, and does not take the answers.
bool http2_connection::congested() const noexcept {
    return !failed_ && !finished_ && nghttp2_session_get_outbound_queue_size(session_) > most_queued_frames;
}

void http2_connection::add_stream(std::int32_t id) {
    auto s = std::make_shared<http2_stream>(*this, id, server_->options);
    check(nghttp2_session_set_stream_user_data(session_, id, s.get()));
    const nghttp2_extpri in_turn = {NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
    check(nghttp2_session_change_extpri_stream_priority(session_, id, &in_turn, 1));
    open_.push_back(*s);
    ++open_count_;
    idle_until_.reset();
    http2_stream& kept = *s;
    kept.self = std::move(s);
}

void http2_connection::close_streams(bool cancel_handlers) noexcept {
    while (http2_open_stream* const node = open_.pop_front()) static_cast<http2_stream&>(*node).closed(cancel_handlers);
    open_count_ = 0;
}

void http2_connection::count_handler(bool begins) noexcept {
    if (begins) {
        ++handlers_;
        ++server_->counts.active;
        return;
    }
    --handlers_;
    --server_->counts.active;
    handler_ended_.set();
}

void http2_connection::count_request() noexcept {
    ++server_->counts.requests;
    const std::size_t most = server_->options.max_requests_per_connection;
    if (++requests_ == most) final_goaway();
}

void http2_connection::remove_stream(http2_stream& s) noexcept {
    static_cast<http2_open_stream&>(s).unlink();
    if (s.response_done) {
        given_up_.give(1);
    } else if (!terminated_ && !given_up_.take(1, now_)) {
        terminate(NGHTTP2_ENHANCE_YOUR_CALM);
    }
    if (--open_count_ == 0) {
        idle_until_ = after(server_->options.idle_timeout);
        due(idle_until_);
    }
    s.closed(true);
}

// A frame of data without data costs as much as one with some, and brings nothing, unless it is the last one.
bool http2_connection::tolerates_data(const nghttp2_frame& frame) noexcept {
    if (frame.hd.length == frame.data.padlen) return tolerates((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 ? 0 : 4);
    nuisance_.give(2);
    return true;
}

bool http2_connection::tolerates(std::int64_t cost) noexcept {
    if (cost == 0 || nuisance_.take(cost, now_)) return true;
    terminate(NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
}

// ---- writing

coro<> http2_connection::write_all(writer_end) {
    try {
        while (!failed_) {
            if (collect()) {
                co_await wait_for(client_.write(out_), server_->options.write_timeout);
                server_->counts.bytes_sent += out_.size();
                room_.set();
                continue;
            }
            nghttp2_session* const session = session_;
            if (!failed_ && !nghttp2_session_want_read(session) && !nghttp2_session_want_write(session)) finish();
            if (open_count_ == 0 && out_.capacity() > kept_when_idle) out_ = std::string();
            co_await to_write_.wait("frames of HTTP/2 to send");
        }
    } catch (const timeout_error&) {  // the client is too slow
        ++server_->counts.lost_clients;
    } catch (const std::system_error&) {  // it has gone
    } catch (const std::bad_alloc&) { fail(std::current_exception()); }
}

// Asks nghttp2 for frames. False if there is none.
bool http2_connection::collect() {
    out_.clear();
    now_ = loop_->now();
    while (out_.size() < most_collected) {
        const std::uint8_t* frames = nullptr;
        const ssize_t size = nghttp2_session_mem_send(session_, &frames);
        if (size < 0) {
            fail(error_ ? error_ : std::make_exception_ptr(std::bad_alloc()));
            return false;
        }
        if (size == 0) break;
        out_.append(reinterpret_cast<const char*>(frames), static_cast<std::size_t>(size));
    }
    return !out_.empty();
}

// All is written, and nothing more will be read. The client gets the end, and some time to end its side: if the
// connection were closed with bytes unread, it would be reset, and the client might lose what was written last.
void http2_connection::finish() noexcept {
    if (finished_) return;
    finished_ = true;
    close_streams(server_->options.cancel_on_disconnect);
    try {
        client_.write_eof();
    } catch (...) {
        fail(nullptr);
        return;
    }
    linger_until_ = now_ + (server_->draining ? silence_of_a_closing_server : most_silence);
    due(linger_until_);
}

// ---- ends

void http2_connection::check(int error) {
    if (error != NGHTTP2_ERR_NOMEM) return;
    fail(std::make_exception_ptr(std::bad_alloc()));
    throw std::bad_alloc();
}

void http2_connection::note(int error) noexcept {
    if (error == NGHTTP2_ERR_NOMEM) fail(std::make_exception_ptr(std::bad_alloc()));
}

int http2_connection::caught() noexcept {
    if (!error_) error_ = std::current_exception();
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

void http2_connection::tell_of_error(std::string what, std::exception_ptr error) {
    ++server_->counts.handler_errors;
    report(std::move(what), std::move(error));
}

void http2_connection::report(std::string what, std::exception_ptr error) {
    get_running_loop().call_exception_handler({std::move(what), std::move(error), current_task()});
}

// No memory for nghttp2, or an error of ours: nothing is asked of nghttp2 any more.
void http2_connection::fail(std::exception_ptr error) noexcept {
    if (!error_) error_ = std::move(error);
    failed_ = true;
    client_.abort();  // the reader hears of it
    room_.set();
    to_write_.set();
}

void http2_connection::terminate(std::uint32_t code) noexcept {
    if (std::exchange(terminated_, true)) return;
    note(nghttp2_session_terminate_session(session_, code));
    wake_writer();
}

void http2_connection::reset(http2_stream& s, std::uint32_t code) noexcept {
    if (failed_) return;
    note(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, s.id, code));
    wake_writer();
}

// The client is told in two steps (RFC 9113, 6.8): requests that it has sent before it hears of the first are served.
void http2_connection::drain() noexcept {
    if (finished_ && linger_until_) {
        linger_until_ = std::min(*linger_until_, loop_->now() + silence_of_a_closing_server);
        due(linger_until_);
    }
    for (http2_open_stream* s = open_.front(); s; s = open_.after(*s)) static_cast<http2_stream&>(*s).server_closes();
    if (!session_ || draining_ || terminated_ || finished_ || failed_) return;
    draining_ = true;
    note(nghttp2_submit_shutdown_notice(session_));
    if (!failed_) note(nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, drain_ping));
    goaway_at_ = loop_->now() + round_trip;
    due(goaway_at_);
    wake_writer();
}

void http2_connection::final_goaway() noexcept {
    goaway_at_.reset();
    draining_ = true;
    const std::int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
    note(nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0));
    wake_writer();
}

// ---- deadlines

std::optional<time_point> http2_connection::after(delay d) const noexcept {
    return d ? std::optional<time_point>(d.from(now_)) : std::nullopt;
}

void http2_connection::due(std::optional<time_point> when) noexcept {
    if (!when || (timer_.armed() && timer_.deadline <= *when)) return;
    loop_->disarm(timer_);
    loop_->arm(timer_, *when);
}

std::optional<time_point> http2_connection::next_deadline() const noexcept {
    std::optional<time_point> first;
    const auto consider = [&first](const std::optional<time_point>& when) {
        if (when && (!first || *when < *first)) first = when;
    };
    consider(linger_until_);
    if (finished_) return first;
    consider(head_until_);
    consider(idle_until_);
    consider(goaway_at_);
    if (const http2_timed_stream* s = sending_.front()) consider(s->deadline);
    if (const http2_timed_stream* s = collecting_.front()) consider(s->deadline);
    if (const http2_timed_stream* s = answered_.front()) consider(s->deadline);
    return first;
}

void http2_connection::reset_overdue(list<http2_timed_stream>& streams, std::uint32_t code) noexcept {
    for (http2_timed_stream* s = streams.front(); s && s->deadline <= now_; s = streams.front()) {
        s->unlink();
        reset(static_cast<http2_stream&>(*s), code);
    }
}

void http2_connection::on_deadline() noexcept {
    if (failed_ || !session_) return;
    now_ = loop_->now();
    const auto past = [this](const std::optional<time_point>& when) { return when && *when <= now_; };
    if (past(linger_until_)) return fail(nullptr);
    if (!finished_) {
        if (past(head_until_)) {
            head_until_.reset();
            terminate(NGHTTP2_NO_ERROR);
        }
        if (past(goaway_at_)) final_goaway();
        if (past(idle_until_)) {
            idle_until_.reset();
            final_goaway();
        }
        reset_overdue(sending_, NGHTTP2_CANCEL);
        reset_overdue(answered_, NGHTTP2_NO_ERROR);
        for (http2_timed_stream* s = collecting_.front(); s && s->deadline <= now_; s = collecting_.front()) {
            s->unlink();
            try {
                static_cast<http2_stream&>(*s).too_slow();
            } catch (...) { return fail(std::current_exception()); }
        }
    }
    due(next_deadline());
}

void http2_connection::expect_nothing(http2_stream& s) noexcept {
    http2_timed_stream& node = s;
    if (node.linked()) node.unlink();
}

void http2_connection::reset_soon(http2_stream& s) noexcept {
    expect_nothing(s);
    s.deadline = now_ + pause_before_reset;
    answered_.push_back(s);
    due(s.deadline);
}

void http2_connection::expect_progress(http2_stream& s) noexcept {
    expect_nothing(s);
    const delay d = server_->options.write_timeout;
    if (!d) return;
    s.deadline = d.from(loop_->now());
    sending_.push_back(s);
    due(s.deadline);
}

void http2_connection::expect_body(http2_stream& s) noexcept {
    expect_nothing(s);
    const delay d = server_->options.body_timeout;
    if (!d) return;
    s.deadline = d.from(now_);
    collecting_.push_back(s);
    due(s.deadline);
}

// ---- windows

void http2_connection::resume(http2_stream& s) {
    check(nghttp2_session_resume_data(session_, s.id));  // an error: it is not deferred
    wake_writer();
}

void http2_connection::open_window(http2_stream& s, std::size_t n) {
    check(nghttp2_session_consume_stream(session_, s.id, n));
    wake_writer();
}

// A connection may have many bodies that are being collected, each as large as max_body_size. While they are larger
// together, only one client may go on, so that it comes to an end; the others wait, and no deadline runs for them.
void http2_connection::count_collected(http2_stream& s, std::size_t n) {
    s.counted += n;
    collected_ += n;
    if (collected_ > server_->options.max_body_size) {
        if (!favoured_) favoured_ = &s;
        if (favoured_ != &s) {
            s.owed += n;
            expect_nothing(s);
            stalled_.push_back(s);
            return;
        }
    }
    check(nghttp2_session_consume_stream(session_, s.id, n));
    expect_body(s);
}

void http2_connection::end_collected(http2_stream& s, bool forgotten) noexcept {
    expect_nothing(s);
    if (favoured_ == &s) favoured_ = nullptr;
    if (forgotten) collected_ -= std::exchange(s.counted, 0);
    pay_owed();
}

void http2_connection::pay_owed() noexcept {
    while (http2_timed_stream* const node = failed_ ? nullptr : stalled_.front()) {
        http2_stream& s = static_cast<http2_stream&>(*node);
        if (collected_ > server_->options.max_body_size) {
            if (favoured_) return;
            favoured_ = &s;
        }
        node->unlink();
        note(nghttp2_session_consume_stream(session_, s.id, std::exchange(s.owed, 0)));
        expect_body(s);
        wake_writer();
    }
}

// ---- the whole

coro<> http2_connection::let_handlers_finish() {
    const bool cancel = server_->options.cancel_on_disconnect;
    close_streams(cancel);
    while (!cancel && handlers_ > 0) co_await handler_ended_.wait("handlers whose client has gone");
}

coro<> serve_http2(http_server_state& server, stream client, std::string first) {
    http2_connection connection(server, std::move(client));
    std::exception_ptr error;
    try {
        co_await connection.run(std::move(first));
        co_await connection.let_handlers_finish();
    } catch (...) { error = std::current_exception(); }
    co_await connection.end_tasks();
    if (error) std::rethrow_exception(error);
    co_await connection.client().aclose();
}

}  // namespace aio::inline v0::detail
