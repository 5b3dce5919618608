// The bytes of the connection: sent and received through the socket, or through the TLS that libpq has set up on it.
// The descriptor is registered once, edge-triggered; a call that has moved less than it was asked to waits for the
// kernel's word.

#include "sql/postgres/session.hpp"

#include "loop/loop_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <sys/socket.h>
#ifdef AIO_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

namespace aio::inline v0::sql {

namespace {
constexpr long again = -1, broken = -2;

#ifdef AIO_TLS
long tls_outcome(SSL* tls, int n) noexcept {
    if (n > 0) return n;
    switch (SSL_get_error(tls, n)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE: return again;
        case SSL_ERROR_ZERO_RETURN: return 0;
        default: return broken;
    }
}
#endif

long outcome(ssize_t n) noexcept {
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EWOULDBLOCK ? again : broken;
}
}  // namespace

long session::send_bytes(const char* data, std::size_t size) noexcept {
#ifdef AIO_TLS
    if (tls_) {
        ERR_clear_error();
        return tls_outcome(static_cast<SSL*>(tls_), SSL_write(static_cast<SSL*>(tls_), data, static_cast<int>(size)));
    }
#endif
    ssize_t n;
    do { n = ::send(source_.fd(), data, size, MSG_NOSIGNAL); } while (n < 0 && errno == EINTR);
    return outcome(n);
}

long session::receive_bytes(char* data, std::size_t size) noexcept {
#ifdef AIO_TLS
    if (tls_) {
        ERR_clear_error();
        return tls_outcome(static_cast<SSL*>(tls_), SSL_read(static_cast<SSL*>(tls_), data, static_cast<int>(size)));
    }
#endif
    ssize_t n;
    do { n = ::recv(source_.fd(), data, size, 0); } while (n < 0 && errno == EINTR);
    return outcome(n);
}

void session::write() noexcept {
    constexpr std::size_t most_at_once = 1 << 20;
    while (!lost() && unsent() > 0 && !write_failed_ && !source_.exhausted(detail::direction::write)) {
        const std::size_t size = std::min(unsent(), most_at_once);
        const long n = send_bytes(out_.data() + out_at_, size);
        if (n > 0) {
            out_at_ += static_cast<std::size_t>(n);
        } else if (n == again) {
            source_.note_exhausted(detail::direction::write);
        } else {
            // The server may have said why, before it has closed the connection.
            write_failed_ = true;
            const int error = errno;
            receive(true);
            if (!lost() && !flights_.empty()) return;  // then the end is still to be read
            if (!lost()) lose_because([error] { return std::generic_category().message(error); });
            return;
        }
    }
    if (lost()) return;
    if (unsent() == 0) {
        out_.clear();
        out_at_ = 0;
        if (out_.capacity() > 4 * most_unsent) std::string().swap(out_);
    } else if (out_at_ > most_unsent) {
        out_.erase(0, std::exchange(out_at_, 0));
    }
    watch();
}

/// Waits for what is needed next. Nothing is waited for, and counts as outstanding, while nothing is under way.
void session::watch() noexcept {
    using detail::direction;
    const bool wants[2] = {
        !lost() && (!flights_.empty() || hearing_ > 0) && !is_full(), !lost() && unsent() > 0 && !write_failed_};
    for (const direction d : {direction::read, direction::write}) {
        bool& parked = parked_[static_cast<int>(d)];
        if (wants[static_cast<int>(d)] == parked) continue;
        parked = !parked;
        if (!parked) {
            source_.unpark(d);
        } else if (d == direction::read) {
            source_.park(d,
                {[](void* s) noexcept {
                     static_cast<session*>(s)->parked_[0] = false;
                     static_cast<session*>(s)->receive(false);
                 },
                    this});
        } else {
            source_.park(d,
                {[](void* s) noexcept {
                     session& me = *static_cast<session*>(s);
                     me.parked_[1] = false;
                     me.pump();
                     if (!me.lost() && !me.flights_.empty() && me.has_room()) {
                         if (job* const j = me.flights_.front().owner; j && j->how == form::copy_in) me.tell(*j);
                     }
                 },
                    this});
        }
    }
}

bool session::is_full() const noexcept {
    return !flights_.empty() && flights_.front().owner && flights_.front().owner->piece.size() >= most_unsent;
}

void session::make_room() {
    constexpr std::size_t usual = 16 * 1024, least = 4 * 1024;
    if (in_begin_ == in_end_) {
        in_begin_ = in_end_ = 0;
        if (in_capacity_ > 64 * usual) {
            in_.reset();
            in_capacity_ = 0;
        }
    }
    if (in_capacity_ - in_end_ >= least) return;
    const std::size_t size = in_end_ - in_begin_;
    const std::size_t capacity = size + least <= in_capacity_ / 2 ? in_capacity_ : std::max(usual, in_capacity_ * 2);
    if (capacity == in_capacity_) {
        std::memmove(in_.get(), in_.get() + in_begin_, size);
    } else {
        std::unique_ptr<char[]> larger(new char[capacity]);
        if (size > 0) std::memcpy(larger.get(), in_.get() + in_begin_, size);
        in_ = std::move(larger);
        in_capacity_ = capacity;
    }
    in_begin_ = 0;
    in_end_ = size;
}

// Reads once, and takes what has come.
void session::receive_once() {
    make_room();
    const std::size_t room = in_capacity_ - in_end_;
    const long n = receive_bytes(in_.get() + in_end_, room);
    if (n > 0) {
        const auto size = static_cast<std::size_t>(n);
        in_end_ += size;
        if (size < room && !tls_ && !source_.ending_seen()) source_.note_exhausted(detail::direction::read);
        parse();
    } else if (n == again) {
        source_.note_exhausted(detail::direction::read);
    } else if (n == 0) {
        lose_because([this] {
            return std::string(farewell_ ? error_of(*farewell_, std::string()).what() : "the server has closed it");
        });
    } else {
        const int error = errno;
        lose_because([&] { return tls_ ? "TLS has failed" : std::generic_category().message(error); });
    }
}

void session::receive(bool ask_anyway) noexcept {
    constexpr int calls_in_a_row = 16;
    for (int calls = 0; !lost() && !is_full(); ++calls) {
        if (source_.exhausted(detail::direction::read) && !std::exchange(ask_anyway, false)) break;
        if (calls == calls_in_a_row) {
            more_to_read_ = true;
            flush_later();
            break;
        }
        try {
            receive_once();
        } catch (const protocol_error& e) {
            lose_because([&e] { return std::string("the server has broken the protocol: ") + e.what(); });
        } catch (const error& e) {  // a value of an impossible size
            lose_because([&e] { return std::string("the server has broken the protocol: ") + e.what(); });
        } catch (const std::bad_alloc&) { lose("there is no memory for what the server sends"); }
    }
    if (lost()) return;
    if (!line_.empty()) flush_later();
    watch();
}

}  // namespace aio::inline v0::sql
