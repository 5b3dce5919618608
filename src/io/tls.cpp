// TLS on a stream: the handshake as an operation, start_tls() and tls(), and the errors. tls_transport.cpp does the
// encryption; nothing of OpenSSL is here.

#include "io/tls.hpp"

#include <aio/errors.hpp>
#include <aio/stream.hpp>

#include <cerrno>
#include <cstdio>
#include <new>

namespace aio::inline v0 {

struct tls_error::texts {
    std::string what, phase, host, reason;
};

tls_error::tls_error(std::error_code code, std::string phase, std::string host, std::string reason)
    : std::system_error(code) {
    const char* const between = phase == "handshake" ? " with "
        : phase == "read"                            ? " from "
        : phase == "write"                           ? " to "
                                                     : " of ";
    std::string all = "TLS " + phase + between + host + ": " + reason;
    texts_ = std::make_shared<const texts>(texts{std::move(all), std::move(phase), std::move(host), std::move(reason)});
}
const char* tls_error::what() const noexcept { return texts_->what.c_str(); }
const std::string& tls_error::phase() const noexcept { return texts_->phase; }
const std::string& tls_error::host() const noexcept { return texts_->host; }
const std::string& tls_error::reason() const noexcept { return texts_->reason; }

namespace detail {

void tls_report::throw_fault(const char* phase, const tls_fault& fault, int error) const {
    const int code = fault.error != 0 ? fault.error : error;
    if (code == ENOMEM) throw std::bad_alloc();
    throw tls_error(std::error_code(code, std::generic_category()), phase, host,
        fault.reason.empty() ? std::generic_category().message(code) : fault.reason);
}

namespace {

std::string seconds(delay d) {
    char text[32];
    std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(d.value()).count());
    return text;
}

/// The handshake. Irrevocable; a cancel while it waits closes the stream, because the peer may have got half of it.
class [[nodiscard]] handshake_operation final : public irrevocable<handshake_operation> {
public:
    handshake_operation(stream_ptr stream, delay limit) noexcept : stream_(std::move(stream)), limit_(limit) {}
    static constexpr bool awaited_once = true;

    bool start() noexcept {
        loop_core& loop = *task_->loop();
        stream_state& s = *stream_;
        loop.disarm(timer_);
        s.stop_reading(*this);
        if (s.closed()) return true;
        if (limit_ && !std::exchange(begun_, true)) deadline_ = limit_.from(loop.now());
        const io_result r = s.handshake();
        if (r.status == io_status::moved) return done_ = true;
        if (r.status == io_status::failed) {
            s.close(false);
            return true;
        }
        if (limit_ && loop.now() >= deadline_) {
            timed_out_ = true;
            s.close(true);
            return true;
        }
        s.wait_for_data(*this);
        if (limit_) {
            timer_.owner = this;
            timer_.fire = [](timer_node& t) noexcept { static_cast<node&>(t).owner->wake_to_retry(); };
            loop.arm(timer_, deadline_);
        }
        return false;
    }
    void unpark() noexcept {
        task_->loop()->disarm(timer_);
        stream_->stop_reading(*this);
        stream_->close(true);
    }
    void revert() noexcept { unpark(); }
    void finish() {
        if (done_) return;
        const tls_report& report = *stream_->report;
        if (timed_out_) {
            report.throw_fault("handshake", {ETIMEDOUT, "the peer has not completed it within " + seconds(limit_)}, 0);
        }
        const int error = stream_->read_error != 0 ? stream_->read_error : ECONNABORTED;
        report.throw_fault("handshake", report.handshake, error);
    }
    void describe(std::string& out) const override { out += "the TLS handshake with " + stream_->report->host; }

private:
    struct node : timer_node {
        handshake_operation* owner = nullptr;
    };
    stream_ptr stream_;
    delay limit_;
    time_point deadline_{};
    node timer_;
    bool begun_ = false;
    bool done_ = false;
    bool timed_out_ = false;
};

}  // namespace

void stream_state::secure(const tls_settings& how, std::string host) {
    if (reader || !writers_.empty()) {
        throw_logic_error("start_tls: another task reads from the stream to " + peer + ", or writes to it");
    }
    if (closed()) throw_system_error(EPIPE, "start_tls with " + peer);
    if (write_eof || torn_at != 0 || eof) throw_logic_error("start_tls: the stream to " + peer + " has ended");
    auto made = std::make_unique<tls_report>(std::move(host));
    // What was read ahead belongs to TLS if it can be TLS (a ClientHello behind a PROXY header). Anything else was
    // sent in plain text by somebody who wants it to pass for encrypted text.
    std::string early(buffer.view());
    constexpr char handshake_record = 22, alert_record = 21;
    if (!early.empty() && early.front() != handshake_record && early.front() != alert_record) {
        const std::string reason =
            "the peer has sent " + std::to_string(early.size()) + " bytes of plain text behind the beginning of TLS";
        buffer.release();
        close(true);
        made->throw_fault("handshake", {EPROTO, reason}, 0);
    }
    std::unique_ptr<tls_transport> secured = make_tls_transport(io_, how, *made);
    secured->begin_with(std::move(early));
    buffer.release();
    made->below = std::move(report);
    report = std::move(made);
    io_ = std::move(secured);
}

io_result stream_state::handshake() noexcept { return static_cast<tls_transport&>(*io_).handshake(); }

std::optional<tls_info> stream_state::tls() const { return io_ ? io_->tls() : std::nullopt; }

void stream_state::throw_read_error() const {
    if (report) report->throw_fault("read", report->read, read_error);
    throw_system_error(read_error, "read from " + peer);
}

void stream_state::throw_write_error(int error) const {
    if (report) report->throw_fault("write", report->write, error);
    throw_system_error(error, "write to " + peer);
}

coro<> begin_tls(stream_ptr stream, tls_settings how, std::string host) {
    stream->secure(how, std::move(host));
    handshake_operation shaking_hands(std::move(stream), how.timeout);
    co_await std::move(shaking_hands);
}

namespace {

coro<> upgrade(stream_ptr stream, tls_settings how) {
    if (!stream) throw_stream_misuse(stream_misuse::no_stream, nullptr);
    if (stream->closed()) throw_system_error(EPIPE, "start_tls with " + stream->peer);
    if (stream->loop() != &require_loop()) throw_stream_misuse(stream_misuse::other_loop, stream.get());
    std::string host = how.server_name.empty() ? stream->peer : how.server_name;
    co_await begin_tls(std::move(stream), std::move(how), std::move(host));
}

}  // namespace
}  // namespace detail

coro<> stream::start_tls(const tls_context& context, std::string server_name, delay handshake_timeout) {
    return detail::upgrade(
        state_, detail::tls_settings(context.detail_state(), std::move(server_name), handshake_timeout));
}

std::optional<tls_info> stream::tls() const {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    return state_->tls();
}

}  // namespace aio::inline v0
