// The transport that encrypts what another transport carries. OpenSSL reads and writes through a BIO that calls the
// inner transport, so the bytes go from OpenSSL's buffers to the kernel without another copy.
//
// What OpenSSL writes is always taken: what the inner transport has no room for stands in output_, at most a record or
// two, and no further data is encrypted before that is gone. So no call of OpenSSL's ever waits for room. A write that
// OpenSSL had half-way would have to be repeated with the same bytes, and a cancel could not take it back; here a write
// is encrypted whole or not begun. Where the stream does not wait for room, the transport waits for itself (on_room).
//
// After an error of writing reading goes on, because the peer may have said why it has closed the connection.

#ifdef AIO_TLS

#include "io/tls_context.hpp"
#include "loop/loop_state.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <stdexcept>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

namespace aio::inline v0::detail {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t record_size = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr std::size_t small_part = 4096;  // parts of a write below this size are put together into one record
constexpr int most_useless_records = 64;  // in a row, without data: key updates, tickets, empty ones
constexpr auto goodbye_time = 30s;        // how long aclose() waits for room (asyncio's ssl_shutdown_timeout)

class openssl_transport final : public tls_transport, private tls_callbacks {
public:
    openssl_transport(transport_ptr& inner, const tls_settings& how, tls_report& report);
    ~openssl_transport() override { close(false); }

    io_result handshake() noexcept override;
    void begin_with(std::string bytes) noexcept override { early_ = std::move(bytes); }
    io_result read(char* into, std::size_t size) noexcept override;
    io_result write(const iovec* parts, int count) noexcept override;
    void wait(direction d, io_waiter w) noexcept override;
    void stop_waiting(direction d) noexcept override;
    void shut_down_writing() noexcept override;
    bool say_goodbye(bool may_wait) noexcept override;
    void close(bool abort) noexcept override;
    std::string local() const override { return inner_->local(); }
    int descriptor() const noexcept override { return inner_->descriptor(); }
    std::optional<tls_info> tls() const override;

private:
    friend struct transport_bio;
    struct node : timer_node {
        openssl_transport* owner = nullptr;
    };
    /// While it lives, OpenSSL is at work: a wake-up must not call it again. The destructor catches up on that.
    class at_work;

    void expect_peer(const std::string& name);
    void resume_session();
    std::string_view protocols() const noexcept override { return context_->protocols(*setup_); }
    void certificate_refused(X509_STORE_CTX* store) noexcept override;
    bool new_session(SSL_SESSION* session) noexcept override;

    enum class step : std::uint8_t { again, would_block, ended, failed };
    step after_failure(int result, tls_fault& fault) noexcept;
    void describe_failure(int kind, tls_fault& fault) noexcept;
    std::size_t encrypt(const char* data, std::size_t size) noexcept;
    void send(const char* data, std::size_t size) noexcept;
    void flush() noexcept;
    io_result nothing_yet() noexcept;
    void wait_for_room() noexcept;
    void on_room() noexcept;
    void on_data() noexcept;
    void tell_writer() noexcept;
    void send_close_notify() noexcept;

    transport_ptr inner_;
    tls_report& report_;
    const tls_context_ref context_;
    const tls_setup_ptr setup_;
    ssl_ptr ssl_;
    std::string peer_name_;     // what the certificate has to be for
    std::string session_name_;  // for whom sessions are kept
    byte_buffer output_;        // encrypted, and there was no room for it
    std::string early_;         // came before the inner transport's next bytes
    io_waiter reader_, writer_;
    node goodbye_timer_;
    int read_error_ = 0;  // of the inner transport, as is write_error_
    int write_error_ = 0;
    std::uint8_t useless_records_ = 0;
    bool established_ = false;
    bool broken_ = false;       // OpenSSL has given the connection up
    bool blocked_ = false;      // the last read of OpenSSL's has found nothing
    bool inner_ended_ = false;  // the inner transport is at its end
    bool refused_ = false;      // report_.handshake says why the certificate was
    bool waiting_for_room_ = false;
    bool at_work_ = false;
    bool writer_may_try_ = false;    // at the end of the work
    bool write_needs_data_ = false;  // OpenSSL writes only when it has read the rest of what it has begun to read
    bool close_notify_sent_ = false;
    bool gave_up_goodbye_ = false;
    bool closed_ = false;
};

// ---- the BIO

struct transport_bio {
    static openssl_transport& of(BIO* bio) noexcept { return *static_cast<openssl_transport*>(BIO_get_data(bio)); }

    static int read(BIO* bio, char* into, int size) noexcept {
        openssl_transport& t = of(bio);
        BIO_clear_retry_flags(bio);
        if (!t.early_.empty()) {
            const std::size_t n = t.early_.copy(into, static_cast<std::size_t>(size));
            t.early_.erase(0, n);
            return static_cast<int>(n);
        }
        const io_result r = t.inner_->read(into, static_cast<std::size_t>(size));
        switch (r.status) {
            case io_status::moved: return static_cast<int>(r.bytes);
            case io_status::would_block:
                t.blocked_ = true;
                BIO_set_retry_read(bio);
                return -1;
            case io_status::ended: t.inner_ended_ = true; return 0;
            default: t.read_error_ = r.error; return -1;
        }
    }
    static int write(BIO* bio, const char* data, int size) noexcept {
        BIO_clear_retry_flags(bio);
        of(bio).send(data, static_cast<std::size_t>(size));
        return size;
    }
    static long control(BIO* bio, int what, long, void*) noexcept {
        if (what == BIO_CTRL_FLUSH) return 1;
        return what == BIO_CTRL_EOF && of(bio).inner_ended_ ? 1 : 0;
    }
    static int create(BIO* bio) noexcept {
        BIO_set_init(bio, 1);
        return 1;
    }
    static BIO_METHOD* method() {
        static BIO_METHOD* const made = [] {
            BIO_METHOD* const m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "a transport of aio");
            if (!m) throw std::bad_alloc();
            BIO_meth_set_read(m, &read);
            BIO_meth_set_write(m, &write);
            BIO_meth_set_ctrl(m, &control);
            BIO_meth_set_create(m, &create);
            return m;
        }();
        return made;
    }
};

class openssl_transport::at_work {
public:
    explicit at_work(openssl_transport& t) noexcept : transport_(t) {
        t.at_work_ = true;
        t.blocked_ = false;
        if (ERR_peek_error() != 0) ERR_clear_error();
    }
    ~at_work() {
        transport_.at_work_ = false;
        transport_.flush();
        const bool tell = std::exchange(transport_.writer_may_try_, false);
        if (transport_.holds_output_) {
            transport_.wait_for_room();
        } else if (tell) {
            transport_.tell_writer();  // may destroy the transport
        }
    }
    at_work(const at_work&) = delete;
    at_work& operator=(const at_work&) = delete;

private:
    openssl_transport& transport_;
};

// ---- making one

// "example.org." and "example.org" are the same host; "fe80::1%eth0" is certified without its interface.
std::string certified_name(std::string name) {
    if (const std::size_t zone = name.find('%'); zone != std::string::npos && name.find(':') < zone) name.resize(zone);
    if (name.size() > 1 && name.back() == '.') name.pop_back();
    return name;
}

bool is_ip_address(const std::string& name) noexcept {
    in6_addr address;
    return ::inet_pton(AF_INET, name.c_str(), &address) == 1 || ::inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

openssl_transport::openssl_transport(transport_ptr& inner, const tls_settings& how, tls_report& report)
    : tls_transport(*inner->loop()), report_(report), context_(how.context), setup_(context_->setup()) {
    const tls_choices& choices = setup_->choices;
    if (!choices.server && choices.verify && choices.trusted.empty()) {
        std::call_once(setup_->system_trust, [&] {
            if (SSL_CTX_set_default_verify_paths(setup_->context.get()) != 1) throw std::bad_alloc();
        });
    }
    ERR_clear_error();
    ssl_.reset(SSL_new(setup_->context.get()));
    BIO* const bio = ssl_ ? BIO_new(transport_bio::method()) : nullptr;
    if (!bio) throw std::bad_alloc();
    BIO_set_data(bio, this);
    SSL_set_bio(ssl_.get(), bio, bio);
    set_callbacks(ssl_.get(), this);
    if (choices.server) {
        SSL_set_accept_state(ssl_.get());
    } else {
        SSL_set_connect_state(ssl_.get());
        expect_peer(certified_name(how.server_name));
        resume_session();
    }
    inner_ = std::move(inner);  // nothing can fail any more
}

void openssl_transport::expect_peer(const std::string& name) {
    const bool verify = setup_->choices.verify;
    if (name.empty()) {
        if (!verify) return;
        throw std::invalid_argument("TLS with " + report_.host +
            " has no server_name: without it nobody knows for whom the certificate has to be");
    }
    require_no_nul(name, "TLS: server_name");
    if (name.size() > TLSEXT_MAXLEN_host_name) {
        throw std::invalid_argument("TLS: server_name is too long for the name of a host: " + name);
    }
    const bool numeric = is_ip_address(name);
    bool done = numeric || SSL_set_tlsext_host_name(ssl_.get(), name.c_str()) == 1;
    if (done && verify) {
        X509_VERIFY_PARAM* const param = SSL_get0_param(ssl_.get());
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        done = numeric ? X509_VERIFY_PARAM_set1_ip_asc(param, name.c_str()) == 1
                       : SSL_set1_host(ssl_.get(), name.c_str()) == 1;
    }
    if (!done) throw std::bad_alloc();
    peer_name_ = name;
}

void openssl_transport::resume_session() {
    session_name_ = peer_name_ + ' ' + report_.host;
    const ssl_session_ptr session = context_->take_session(setup_, session_name_);
    if (session) SSL_set_session(ssl_.get(), session.get());
    ERR_clear_error();
}

// ---- what OpenSSL calls

void openssl_transport::certificate_refused(X509_STORE_CTX* store) noexcept {
    if (!setup_->choices.server && !setup_->choices.verify) return;
    refused_ = true;
    try {
        report_.handshake = {EACCES, why_refused(store, peer_name_)};
    } catch (...) { report_.handshake.error = ENOMEM; }
}

bool openssl_transport::new_session(SSL_SESSION* session) noexcept {
    return !session_name_.empty() && context_->keep_session(setup_, session_name_, session);
}

void openssl_transport::send(const char* data, std::size_t size) noexcept {
    if (write_error_ != 0) return;
    if (output_.size() == 0) {
        const iovec part = {const_cast<char*>(data), size};  // it is only read
        const io_result r = inner_->write(&part, 1);
        if (r.status == io_status::failed) write_error_ = r.error;
        if (write_error_ != 0 || r.bytes == size) return;
        data += r.bytes;
        size -= r.bytes;
    }
    try {
        std::memcpy(output_.room_for(size), data, size);
        output_.filled(size);
        holds_output_ = true;
    } catch (...) { write_error_ = ENOMEM; }
}

// ---- room for what was encrypted

void openssl_transport::flush() noexcept {
    if (output_.size() == 0 && !inner_->holds_output()) {
        holds_output_ = false;
        return;
    }
    while (output_.size() > 0 && write_error_ == 0) {
        const iovec part = {const_cast<char*>(output_.view().data()), output_.size()};
        const io_result r = inner_->write(&part, 1);
        if (r.status == io_status::would_block) return;
        if (r.status == io_status::failed) write_error_ = r.error;
        output_.consume(r.bytes);
    }
    output_.release();
    if (write_error_ == 0 && inner_->holds_output()) {  // TLS below this one
        const io_result r = inner_->write(nullptr, 0);
        if (r.status == io_status::failed) write_error_ = r.error;
    }
    holds_output_ = write_error_ == 0 && inner_->holds_output();
}

void openssl_transport::wait_for_room() noexcept {
    if (std::exchange(waiting_for_room_, true)) return;
    inner_->wait(direction::write, {[](void* t) noexcept { static_cast<openssl_transport*>(t)->on_room(); }, this});
}

void openssl_transport::on_room() noexcept {
    waiting_for_room_ = false;
    if (at_work_) {
        writer_may_try_ = true;
        return;
    }
    if (!closed_) flush();
    if (holds_output_ && !closed_) return wait_for_room();
    tell_writer();
}

// Also of a writer: of a message that came in pieces OpenSSL wants to read the rest before it writes.
void openssl_transport::on_data() noexcept {
    const io_waiter reader = std::exchange(reader_, {});
    if (reader.who) reader.ready(reader.who);  // wakes a task, and does nothing else
    if (!std::exchange(write_needs_data_, false)) return;
    if (at_work_) {
        writer_may_try_ = true;
    } else {
        tell_writer();
    }
}

// The writer may close the stream, and that destroys the transport.
void openssl_transport::tell_writer() noexcept {
    const io_waiter once = std::exchange(writer_, {});
    if (once.who) once.ready(once.who);
}

void openssl_transport::wait(direction d, io_waiter w) noexcept {
    if (d == direction::write) {
        writer_ = w;
        if (holds_output_) return wait_for_room();
        if (!write_needs_data_) return;  // during the handshake
    } else {
        reader_ = w;
    }
    inner_->wait(direction::read, {[](void* t) noexcept { static_cast<openssl_transport*>(t)->on_data(); }, this});
}

void openssl_transport::stop_waiting(direction d) noexcept {
    (d == direction::read ? reader_ : writer_) = {};
    if (d == direction::read && !(write_needs_data_ && writer_.who)) inner_->stop_waiting(d);
}

// ---- failures

// What a call of OpenSSL's that has not succeeded means.
openssl_transport::step openssl_transport::after_failure(int result, tls_fault& fault) noexcept {
    const int kind = SSL_get_error(ssl_.get(), result);
    if (kind == SSL_ERROR_WANT_READ) {
        if (blocked_) return step::would_block;
        if (!established_ || ++useless_records_ < most_useless_records) return step::again;
    }
    if (kind == SSL_ERROR_ZERO_RETURN) return step::ended;
    broken_ = true;
    describe_failure(kind, fault);
    return step::failed;
}

void openssl_transport::describe_failure(int kind, tls_fault& fault) noexcept {
    tls_fault told = take_openssl_error();
    try {
        if (refused_ && fault.error != 0) return;  // certificate_refused() has said why
        if (read_error_ != 0) {
            fault = {read_error_, {}};
        } else if (inner_ended_ && told.error != ENOMEM) {
            fault = {ECONNRESET,
                established_ ? "the connection was cut: it has ended without a close_notify"
                             : "the peer has closed the connection"};
        } else if (kind == SSL_ERROR_WANT_READ) {
            fault = {EPROTO, "the peer sends records without data, again and again"};
        } else {
            fault = std::move(told);
        }
    } catch (...) { fault = {ENOMEM, {}}; }
}

// ---- the handshake

io_result openssl_transport::handshake() noexcept {
    const at_work guard(*this);
    flush();
    for (;;) {
        blocked_ = false;
        const int result = SSL_do_handshake(ssl_.get());
        if (result == 1) break;
        switch (after_failure(result, report_.handshake)) {
            case step::again: continue;
            case step::would_block:
                if (write_error_ == 0) return io_result::would_block();
                report_.handshake = {write_error_, {}};  // and the peer has not said why
                [[fallthrough]];
            default:
                broken_ = true;
                if (report_.handshake.error == 0) report_.handshake.error = EPROTO;
                return io_result::failed(report_.handshake.error);
        }
    }
    established_ = true;
    writer_may_try_ = true;
    return io_result::moved(0);
}

std::optional<tls_info> openssl_transport::tls() const {
    if (!established_) return std::nullopt;
    tls_info info;
    info.version = SSL_version(ssl_.get()) == TLS1_3_VERSION ? tls_version::v1_3 : tls_version::v1_2;
    info.cipher = SSL_get_cipher_name(ssl_.get());
    const unsigned char* protocol = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &protocol, &size);
    if (size > 0) info.alpn.assign(reinterpret_cast<const char*>(protocol), size);
    info.peer_subject = subject_of(SSL_get0_peer_certificate(ssl_.get()));
    info.resumed = SSL_session_reused(ssl_.get()) == 1;
    return info;
}

// ---- data

// SSL_MODE_RELEASE_BUFFERS leaves the buffer for writing (OpenSSL 3.0: after a ticket, and after a write of more than
// one byte).
io_result openssl_transport::nothing_yet() noexcept {
    SSL_free_buffers(ssl_.get());
    return io_result::would_block();
}

io_result openssl_transport::read(char* into, std::size_t size) noexcept {
    if (!established_) return io_result::would_block();
    if (report_.read.error != 0) return io_result::failed(report_.read.error);
    // The last call may have read the peer's close_notify, behind the data that it has given.
    if (inner_->nothing_to_read() && early_.empty() && !holds_output_ && SSL_has_pending(ssl_.get()) == 0 &&
        SSL_get_shutdown(ssl_.get()) == 0) {
        return nothing_yet();
    }
    const at_work guard(*this);
    flush();
    std::size_t got = 0;
    for (;;) {
        std::size_t n = 0;
        blocked_ = false;
        const int result = SSL_read_ex(ssl_.get(), into + got, size - got, &n);
        if (result == 1) {
            useless_records_ = 0;
            writer_may_try_ |= std::exchange(write_needs_data_, false);
            got += n;
            if (got == size || SSL_has_pending(ssl_.get()) == 0) return io_result::moved(got);
            continue;
        }
        const step s = after_failure(result, report_.read);
        if (s == step::again) continue;
        if (got > 0) return io_result::moved(got);  // the next call gives the end, or the error
        if (s == step::would_block) return nothing_yet();
        if (s == step::ended) return io_result::ended();
        return io_result::failed(report_.read.error);
    }
}

// Encrypts at most one record. Gives how many bytes that were, 0 if it has failed.
std::size_t openssl_transport::encrypt(const char* data, std::size_t size) noexcept {
    std::size_t n = 0;
    const int result = SSL_write_ex(ssl_.get(), data, std::min(size, record_size), &n);
    if (result == 1) return n;
    const int kind = SSL_get_error(ssl_.get(), result);
    write_needs_data_ = kind == SSL_ERROR_WANT_READ;
    if (write_needs_data_) return 0;
    broken_ = true;
    describe_failure(kind, report_.write);
    write_error_ = report_.write.error;
    return 0;
}

io_result openssl_transport::write(const iovec* parts, int count) noexcept {
    if (write_error_ == 0 && !established_) return io_result::would_block();
    const at_work guard(*this);
    flush();
    if (write_error_ == 0 && holds_output_) return io_result::would_block();
    std::size_t moved = 0, at = 0;  // at: of the first part that is left
    char together[record_size];
    while (count > 0 && write_error_ == 0 && output_.size() == 0) {
        const char* data = static_cast<const char*>(parts->iov_base) + at;
        std::size_t size = parts->iov_len - at;
        if (count > 1 && size < small_part) {
            std::size_t gathered = 0;
            std::size_t from = at;
            for (int i = 0; i < count && gathered < record_size; ++i, from = 0) {
                const std::size_t n = std::min(parts[i].iov_len - from, record_size - gathered);
                std::memcpy(together + gathered, static_cast<const char*>(parts[i].iov_base) + from, n);
                gathered += n;
            }
            data = together;
            size = gathered;
        }
        std::size_t n = size == 0 ? 0 : encrypt(data, size);
        if (n == 0 && size != 0) break;
        moved += n;
        for (at += n; count > 0 && at >= parts->iov_len; ++parts, --count) at -= parts->iov_len;
    }
    if (write_error_ != 0) return io_result::failed(write_error_);
    return moved == 0 && write_needs_data_ ? io_result::would_block() : io_result::moved(moved);
}

// ---- the end

// Before close_notify a client reads what the server has sent behind the handshake: tickets that nobody has read would
// make the close a reset, and the server might lose what was written last.
void openssl_transport::send_close_notify() noexcept {
    if (!established_ || broken_ || std::exchange(close_notify_sent_, true)) return;
    const at_work guard(*this);
    flush();
    if (!setup_->choices.server) {
        char unused;
        std::size_t n = 0;
        for (int i = 0; i < 4 && SSL_peek_ex(ssl_.get(), &unused, 1, &n) != 1 && !blocked_ && !inner_ended_; ++i) {}
        ERR_clear_error();
    }
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
}

void openssl_transport::shut_down_writing() noexcept {
    if (!loop()->state().forked()) send_close_notify();
}

bool openssl_transport::say_goodbye(bool may_wait) noexcept {
    if (loop()->state().forked() || gave_up_goodbye_) return true;
    send_close_notify();
    if (!may_wait || !holds_output_ || write_error_ != 0) return true;
    if (!goodbye_timer_.armed()) {
        goodbye_timer_.owner = this;
        goodbye_timer_.fire = [](timer_node& t) noexcept {
            openssl_transport& self = *static_cast<node&>(t).owner;
            self.gave_up_goodbye_ = true;
            self.tell_writer();
        };
        loop()->arm(goodbye_timer_, delay(goodbye_time).from(loop()->now()));
    }
    return false;
}

void openssl_transport::close(bool abort) noexcept {
    if (!inner_ || std::exchange(closed_, true)) return;
    loop()->disarm(goodbye_timer_);
    if (broken_ && !abort && !loop()->state().forked()) {
        // What is unread would make the close a reset, and the peer might lose the alert that says what was wrong.
        char unread[4096];
        for (int i = 0; i < 16 && inner_->read(unread, sizeof unread).status == io_status::moved; ++i) {}
    }
    // OpenSSL would take the session of a connection that has not said goodbye for a bad one.
    if (ssl_ && !broken_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    inner_->close(abort);  // tells the waiters
}

}  // namespace

std::unique_ptr<tls_transport> make_tls_transport(transport_ptr& inner, const tls_settings& how, tls_report& report) {
    return std::make_unique<openssl_transport>(inner, how, report);
}

}  // namespace aio::inline v0::detail

#endif
