#ifdef AIO_IO_URING

// The transport over a TCP socket on io_uring. A connection costs no system call of its own as long as its pieces are
// small: one request in the ring receives again and again, and small writes are collected and go out with the poll.
//
// Large pieces are better received and sent by calls of one's own, which copy once and take more at a time. So a socket
// that has received a full buffer, or that nobody reads, ends its request, and is read like a socket of epoll until
// its pieces are small again.

#include "io/no_sigpipe.hpp"
#include "io/resolver.hpp"
#include "io/transport.hpp"
#include "loop/backend/io_uring.hpp"
#include "loop/loop_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <initializer_list>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

class uring_socket;

constexpr std::size_t collected_most = 2048;  // bytes of small writes; a block of the free lists
constexpr int held_most = 8;                  // pieces that nobody reads

/// What a socket has under way in the ring. It lives as long as the kernel works for it; the socket may go before.
class ring_socket final : public pooled {
public:
    ring_socket(int descriptor, uring_backend& r, uring_socket& owner) noexcept
        : fd(descriptor), ring(r), owner_(&owner) {}
    ~ring_socket() { release_buffer(); }

    /// Takes small writes. False: there is no room, or no memory for them.
    bool collect(const iovec* parts, int count, std::size_t size) noexcept;
    /// Sends what is collected, and then the parts, with one call. Gives what has been sent of the parts.
    io_result send_now(const iovec* parts, int count) noexcept;
    /// What is collected is the kernel's, as far as it has room. False: the ring still has some of it.
    bool hand_over() noexcept;
    /// After all that is collected.
    void shut_down_writing() noexcept {
        shut_down_ = !hand_over();
        if (!shut_down_) ::shutdown(fd, SHUT_WR);
    }
    bool sending() const noexcept { return sending_.under_way; }
    /// Closes the descriptor as soon as all is sent, or now if that is not wanted. The owner is gone.
    void leave(bool abort) noexcept;
    /// The same if the ring is gone, or belongs to the parent of a fork().
    void leave_without_ring() noexcept;

    template<void (ring_socket::*Told)(int, std::uint32_t)>
    struct request final : ring_request {
        explicit request(ring_socket& s) noexcept : socket(s) {}
        void ended(int result, std::uint32_t flags) noexcept override {
            under_way = (flags & IORING_CQE_F_MORE) != 0;
            (socket.*Told)(result, flags);
        }
        void dropped() noexcept override {
            under_way = false;
            socket.over();
        }
        ring_socket& socket;
        bool under_way = false;
    };
    void received(int result, std::uint32_t flags);
    void ready_to_read(int result, std::uint32_t flags);
    void ready_to_write(int result, std::uint32_t flags);
    void hung_up(int result, std::uint32_t flags);
    request<&ring_socket::received> receiving{*this};
    request<&ring_socket::ready_to_read> readable{*this};
    request<&ring_socket::ready_to_write> writable{*this};
    request<&ring_socket::hung_up> hang_up{*this};  // for as long as the ring receives

    int fd;
    uring_backend& ring;
    int send_error = 0;

private:
    struct sending_request final : ring_sending {
        explicit sending_request(ring_socket& s) noexcept : socket(s) {}
        void poll_comes() noexcept override {
            under_way = true;
            socket.ring.send_at_once(*this, socket.fd, socket.out_ + socket.begin_, socket.end_ - socket.begin_);
        }
        void all_sent() noexcept override { ended(static_cast<int>(socket.end_ - socket.begin_), 0); }
        void ended(int result, std::uint32_t) noexcept override {
            under_way = false;
            socket.sent(result == -EAGAIN ? 0 : result);
        }
        void dropped() noexcept override;
        ring_socket& socket;
        bool under_way = false;
    };
    void send_rest() noexcept;
    void sent(int result) noexcept;
    void release_buffer() noexcept;
    void close_descriptor() noexcept;
    void over() noexcept;
    bool waits() const noexcept {
        return receiving.under_way || readable.under_way || writable.under_way || hang_up.under_way;
    }

    uring_socket* owner_;  // null: gone
    sending_request sending_{*this};
    char* out_ = nullptr;  // collected_most bytes, of which those from begin_ to end_ are to be sent
    std::size_t begin_ = 0, end_ = 0;
    bool shut_down_ = false;  // as soon as all is sent
};

class uring_socket final : public transport {
public:
    uring_socket(int fd, loop_core& loop, uring_backend& ring)
        : transport(loop), ring_(ring), socket_(new ring_socket(fd, ring, *this)) {}
    ~uring_socket() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (first_ != uring_backend::no_buffer) return io_result::moved(take(into, size));
        if (const int error = std::exchange(error_, 0)) return io_result::failed(error);
        if (ended_) return end();
        if (!directly_ || socket_->receiving.under_way) return io_result::would_block();
        ssize_t n;
        do { n = ::recv(socket_->fd, into, size, MSG_DONTWAIT); } while (n < 0 && errno == EINTR);
        if (n > 0) {
            if (static_cast<std::size_t>(n) < size) look_again(static_cast<std::size_t>(n));
            return io_result::moved(static_cast<std::size_t>(n));
        }
        if (n == 0) return end();
        if (errno != EAGAIN && errno != EWOULDBLOCK) return io_result::failed(errno);
        directly_ = false;
        return io_result::would_block();
    }
    io_result write(const iovec* parts, int count) noexcept override {
        if (socket_->sending() || no_room_) return io_result::would_block();
        if (const int error = std::exchange(socket_->send_error, 0)) return failed_to_write(error);
        std::size_t size = 0;
        for (int i = 0; i < count; ++i) size += parts[i].iov_len;
        if (socket_->collect(parts, count, size)) return io_result::moved(size);
        const io_result r = socket_->send_now(parts, count);
        if (r.status == io_status::failed) return failed_to_write(r.error);
        no_room_ = r.status == io_status::would_block || (r.status == io_status::moved && r.bytes < size);
        return r;
    }
    bool sends_files() const noexcept override { return true; }
    io_result send_file(int fd, std::int64_t offset, std::size_t size) noexcept override;
    bool say_goodbye(bool may_wait) noexcept override {
        return loop()->state().forked() || socket_->hand_over() || !may_wait;
    }
    void wait(direction d, io_waiter w) noexcept override {
        (d == direction::read ? reader_ : writer_) = w;
        ++loop()->outstanding;
        if (d == direction::write) {
            if (!socket_->sending()) ask(socket_->writable, POLLOUT);
        } else if (!socket_->receiving.under_way) {
            if (bulk_) return ask(socket_->readable, POLLIN | POLLRDHUP);
            socket_->receiving.under_way = true;
            ring_.receive(socket_->receiving, socket_->fd);
            ask(socket_->hang_up, 0);
        }
    }
    // What is under way stays so. What a receive brings is kept for the next reader.
    void stop_waiting(direction d) noexcept override {
        io_waiter& w = d == direction::read ? reader_ : writer_;
        if (!w.who) return;
        w = {};
        --loop()->outstanding;
    }
    void shut_down_writing() noexcept override {
        if (!loop()->state().forked()) socket_->shut_down_writing();
    }
    void close(bool abort) noexcept override;
    std::string local() const override { return address_of_socket(socket_->fd, false).to_string(); }
    int descriptor() const noexcept override { return socket_ ? socket_->fd : -1; }

    // ---- what the ring has to tell

    void received(int result, std::uint32_t flags) noexcept;
    void tell(direction d) noexcept {
        const io_waiter w = d == direction::read ? reader_ : writer_;
        stop_waiting(d);
        if (w.who) w.ready(w.who);
    }
    void may_read() noexcept {
        directly_ = true;
        tell(direction::read);
    }
    // The kernel (6.18) may give the last bytes before a reset, and never tell of the reset: a call of one's own does.
    void hung_up() noexcept { end_ring_receive(); }
    void may_write() noexcept {
        no_room_ = false;
        tell(direction::write);
    }

private:
    // A reset shows itself once, to a read or to a write.
    io_result failed_to_write(int error) const noexcept {
        return io_result::failed(error == EPIPE && error_ != 0 ? error_ : error);
    }
    io_result end() noexcept {
        const int error = socket_->send_error;
        return error != 0 && error != EPIPE ? io_result::failed(error) : io_result::ended();
    }
    template<class Request>
    void ask(Request& r, unsigned events) noexcept {
        if (!std::exchange(r.under_way, true)) ring_.wait_for(r, socket_->fd, events);
    }
    std::size_t take(char* into, std::size_t size) noexcept;
    // A call of one's own has taken all there was. After some small pieces the ring is the better way to get the next.
    void look_again(std::size_t n) noexcept {
        directly_ = false;
        bulk_ = n >= uring_backend::buffer_size || ++small_ < 3;
        if (!bulk_ || n >= uring_backend::buffer_size) small_ = 0;
    }
    void end_ring_receive() noexcept {
        bulk_ = true;
        small_ = 0;
        if (socket_->receiving.under_way) ring_.cancel_now(socket_->receiving);
    }

    uring_backend& ring_;
    ring_socket* socket_;
    io_waiter reader_, writer_;
    int error_ = 0;
    // The pieces that came from the ring and were not read: a chain, of whose first one some bytes are read already.
    std::uint16_t first_ = uring_backend::no_buffer, last_ = uring_backend::no_buffer;
    std::uint16_t first_read_ = 0;
    int held_ = 0;
    int small_ = 0;          // pieces in a row that a call of one's own has read
    bool bulk_ = false;      // wait for readiness, and read by calls of one's own
    bool directly_ = false;  // such a call may find something
    bool no_room_ = false;
    bool ended_ = false;
};

// ---- receiving ----

std::size_t uring_socket::take(char* into, std::size_t size) noexcept {
    std::size_t done = 0;
    while (done < size && first_ != uring_backend::no_buffer) {
        const uring_backend::piece piece = ring_.piece_of(first_);
        const std::size_t n = std::min<std::size_t>(size - done, piece.size - first_read_);
        std::memcpy(into + done, ring_.buffer(first_) + first_read_, n);
        done += n;
        first_read_ = static_cast<std::uint16_t>(first_read_ + n);
        if (first_read_ < piece.size) break;
        ring_.give_back(first_);
        first_ = piece.next;
        first_read_ = 0;
        --held_;
    }
    return done;
}

void uring_socket::received(int result, std::uint32_t flags) noexcept {
    if (flags & IORING_CQE_F_BUFFER) {
        const std::uint16_t number = uring_backend::buffer_of(flags);
        if (result > 0) {
            ring_.piece_of(number) = {uring_backend::no_buffer, static_cast<std::uint16_t>(result)};
            (first_ == uring_backend::no_buffer ? first_ : ring_.piece_of(last_).next) = number;
            last_ = number;
            ++held_;
        } else {
            ring_.give_back(number);
        }
    }
    const bool more = (flags & IORING_CQE_F_MORE) != 0;
    if (result == 0) ended_ = true;
    if (result < 0 && result != -ECANCELED && result != -ENOBUFS && result != -EINTR) error_ = -result;
    if (!more) directly_ = true;
    if (more && !bulk_ && (result == uring_backend::buffer_size || held_ >= held_most)) end_ring_receive();
    tell(direction::read);
}

void ring_socket::received(int result, std::uint32_t flags) {
    if (owner_) return owner_->received(result, flags);
    if (flags & IORING_CQE_F_BUFFER) ring.give_back(uring_backend::buffer_of(flags));
    over();
}

void ring_socket::ready_to_read(int, std::uint32_t) { owner_ ? owner_->may_read() : over(); }
void ring_socket::ready_to_write(int, std::uint32_t) { owner_ ? owner_->may_write() : over(); }
void ring_socket::hung_up(int, std::uint32_t) { owner_ ? owner_->hung_up() : over(); }

// ---- sending ----

bool ring_socket::collect(const iovec* parts, int count, std::size_t size) noexcept {
    if (size > collected_most - end_) return false;
    if (!out_) {
        try {
            out_ = static_cast<char*>(allocate(collected_most));
        } catch (const std::bad_alloc&) { return false; }
    }
    for (int i = 0; i < count; ++i) {
        std::memcpy(out_ + end_, parts[i].iov_base, parts[i].iov_len);
        end_ += parts[i].iov_len;
    }
    if (!sending_.linked()) ring.before_poll(sending_);
    return true;
}

void ring_socket::release_buffer() noexcept {
    if (out_) deallocate(std::exchange(out_, nullptr), collected_most);
    begin_ = end_ = 0;
}

void ring_socket::send_rest() noexcept {
    sending_.under_way = true;
    ring.send(sending_, fd, out_ + begin_, end_ - begin_);
}

void ring_socket::sent(int result) noexcept {
    if (result >= 0) begin_ += static_cast<std::size_t>(result);
    if (result >= 0 && begin_ < end_) return send_rest();
    if (result < 0 && owner_) send_error = -result;
    release_buffer();
    if (std::exchange(shut_down_, false)) ::shutdown(fd, SHUT_WR);
    owner_ ? owner_->may_write() : over();
}

io_result ring_socket::send_now(const iovec* parts, int count) noexcept {
    constexpr int most = 17;
    iovec all[most];
    int n_parts = 0;
    const std::size_t before = end_ - begin_;
    if (before > 0) all[n_parts++] = {out_ + begin_, before};
    for (int i = 0; i < count && n_parts < most; ++i) all[n_parts++] = parts[i];
    msghdr message{};
    message.msg_iov = all;
    message.msg_iovlen = static_cast<std::size_t>(n_parts);
    ssize_t n;
    do { n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        const int error = errno;
        if (sending_.linked()) sending_.unlink();
        release_buffer();
        return io_result::failed(error);
    }
    const std::size_t sent = n < 0 ? 0 : static_cast<std::size_t>(n);
    begin_ += std::min(sent, before);
    if (begin_ == end_) {
        if (sending_.linked()) sending_.unlink();
        release_buffer();
    }
    return sent > before ? io_result::moved(sent - before) : io_result::would_block();
}

// What has been collected goes before the file.
io_result uring_socket::send_file(int fd, std::int64_t offset, std::size_t size) noexcept {
    if (no_room_ || !socket_->hand_over()) return io_result::would_block();
    const ssize_t n = sendfile_quietly(socket_->fd, fd, offset, size);
    if (n > 0) return io_result::moved(static_cast<std::size_t>(n));
    if (n == 0) return io_result::ended();
    if (errno != EAGAIN && errno != EWOULDBLOCK) return failed_to_write(errno);
    no_room_ = true;
    return io_result::would_block();
}

bool ring_socket::hand_over() noexcept {
    if (sending_.under_way) return false;
    if (begin_ == end_) return true;
    const io_result r = send_now(nullptr, 0);
    if (r.status == io_status::failed) send_error = r.error;
    if (begin_ == end_) return true;
    sending_.unlink();
    send_rest();  // tells when there was room
    return false;
}

// The loop ends: what was collected goes out as far as there is room.
void ring_socket::sending_request::dropped() noexcept {
    if (!under_way) socket.send_now(nullptr, 0);
    under_way = false;
    socket.release_buffer();
    socket.over();
}

// ---- the end ----

// The peer hears of a close when no request uses the socket any more, so none may wait for the next poll.
void ring_socket::leave(bool abort) noexcept {
    if (!abort) hand_over();
    if (sending_.linked() && !sending_.under_way) {
        sending_.unlink();
        release_buffer();
    }
    owner_ = nullptr;
    if (sending_.under_way && !abort) {
        for (ring_request* const r : std::initializer_list<ring_request*>{&receiving, &readable, &writable, &hang_up}) {
            if (r->linked()) ring.cancel_now(*r);
        }
    } else if (waits() || sending_.under_way) {
        ring.cancel_all_now(fd);
    }
    if (!sending_.under_way || abort) close_descriptor();
    over();
}

void ring_socket::close_descriptor() noexcept {
    ring.let_go(fd);
    ::close(std::exchange(fd, -1));
}

void ring_socket::leave_without_ring() noexcept {
    owner_ = nullptr;
    ::close(std::exchange(fd, -1));
    over();
}

void ring_socket::over() noexcept {
    if (owner_ || sending_.under_way) return;
    if (fd >= 0) close_descriptor();
    if (!waits()) delete this;
}

void uring_socket::close(bool abort) noexcept {
    if (!socket_) return;
    ring_socket* const socket = std::exchange(socket_, nullptr);
    if (loop()->closed || loop()->state().forked()) {
        socket->leave_without_ring();
    } else {
        for (std::uint16_t n = std::exchange(first_, uring_backend::no_buffer); n != uring_backend::no_buffer;) {
            const std::uint16_t next = ring_.piece_of(n).next;
            ring_.give_back(n);
            n = next;
        }
        if (abort) {
            const linger reset{1, 0};
            ::setsockopt(socket->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        socket->leave(abort);
    }
    for (const direction d : {direction::read, direction::write}) tell(d);
}

}  // namespace

transport_ptr make_uring_transport(int fd, loop_core& loop, uring_backend& ring) {
    ring.take_over(fd);
    try {
        return std::make_unique<uring_socket>(fd, loop, ring);
    } catch (...) {
        ring.let_go(fd);
        throw;
    }
}

}  // namespace aio::inline v0::detail

#endif
