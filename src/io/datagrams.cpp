// The operations behind aio::datagrams, and the state that they share. datagram_sockets.cpp makes the sockets.
//
// The first receiver in the line tries, and waits at the descriptor where there is nothing. Nothing is received between
// its wake-up and its task's step, and what it has received lies in the state until that step takes it: so a cancel
// loses no datagram. Who has received wakes the next one in the line, because the kernel tells only of changes.
//
// Senders stand in such a line, too, but for one case: a unix socket that is not connected gets EAGAIN where the queue
// of its receiver is full, and the kernel does not tell when there is room. Such a send tries again every few
// milliseconds, beside the line, so that one slow receiver holds up nobody else; sends to the same address keep their
// order.

#include "io/datagrams_state.hpp"

#include <aio/datagrams.hpp>
#include <aio/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

namespace {

constexpr auto longest_pause = std::chrono::milliseconds(64);

/// Where a thread receives, whatever the socket: most datagrams are much smaller than the largest one that might come.
struct receive_room {
    std::unique_ptr<char[]> memory;
    std::size_t size = 0;
};
[[gnu::noinline]] char* room_to_receive(std::size_t size) noexcept {
    static thread_local receive_room room;
    if (room.size < size) {
        room.memory.reset(new (std::nothrow) char[size]);
        room.size = room.memory ? size : 0;
    }
    return room.memory.get();
}

// A socket for both families gives IPv4 addresses in a form of IPv6 (::ffff:192.0.2.1), and takes them so. Users see
// them as what they are.
address without_mapping(const address& a) noexcept {
    if (!a.is_ipv6()) return a;
    const auto& mapped = *reinterpret_cast<const sockaddr_in6*>(a.native());
    if (!IN6_IS_ADDR_V4MAPPED(&mapped.sin6_addr)) return a;
    address plain;
    sockaddr_in ip4{};
    ip4.sin_family = AF_INET;
    ip4.sin_port = mapped.sin6_port;
    std::memcpy(&ip4.sin_addr, mapped.sin6_addr.s6_addr + 12, sizeof ip4.sin_addr);
    std::memcpy(plain.detail_room(), &ip4, sizeof ip4);
    *plain.detail_size() = sizeof ip4;
    return plain;
}
address with_mapping(const address& a) noexcept {
    if (!a.is_ipv4()) return a;
    const auto& plain = *reinterpret_cast<const sockaddr_in*>(a.native());
    address mapped;
    sockaddr_in6 ip6{};
    ip6.sin6_family = AF_INET6;
    ip6.sin6_port = plain.sin_port;
    ip6.sin6_addr.s6_addr[10] = ip6.sin6_addr.s6_addr[11] = 0xFF;
    std::memcpy(ip6.sin6_addr.s6_addr + 12, &plain.sin_addr, sizeof plain.sin_addr);
    std::memcpy(mapped.detail_room(), &ip6, sizeof ip6);
    *mapped.detail_size() = sizeof ip6;
    return mapped;
}

std::string or_something(const std::string& name) {
    return name.empty() ? std::string("a socket without a name") : name;
}

[[noreturn]] void throw_misuse(datagram_misuse misuse, const datagrams_state* socket, const address* to) {
    const std::string name = socket ? socket->name() : std::string();
    switch (misuse) {
        case datagram_misuse::other_loop: throw_logic_error("the socket of " + name + " belongs to another event loop");
        case datagram_misuse::no_peer:
            throw_logic_error("send: the socket of " + name + " is not connected: say to which address to send");
        case datagram_misuse::other_family:
            throw std::invalid_argument("send: the socket of " + name + " cannot send to " +
                (to && *to ? to->to_string() : std::string("no address")) + ", which is of another family");
        default: throw_logic_error("this socket is empty: it was default-constructed or moved from");
    }
}

datagram_misuse misuse_of(const datagrams_ref& socket, const loop_core* loop) noexcept {
    if (!socket) return datagram_misuse::no_socket;
    if (!socket->closed() && socket->loop() != loop) return datagram_misuse::other_loop;
    return datagram_misuse::none;
}

}  // namespace

void references_of<datagrams_state>::retain(datagrams_state& state) noexcept { state.retain(); }
void references_of<datagrams_state>::release(datagrams_state& state) noexcept { state.release(); }

// ---- the state

datagrams_state::datagrams_state(int fd, const datagram_traits& t) : traits(t) {
    try {
        source_.attach(fd);
    } catch (...) {
        ::close(fd);
        throw;
    }
}

std::string datagrams_state::name() const { return or_something(traits.local.to_string()); }
std::string datagrams_state::where_to_receive() const {
    return traits.peer ? "from " + traits.peer.to_string() : "on " + name();
}

void datagrams_state::close() noexcept {
    const int fd = source_.fd();
    if (fd < 0) return;
    const bool of_parent = source_.loop()->state().forked();
    source_.detach();
    ::close(fd);
    if (!of_parent) traits.file.remove(traits.local);
    taken_ = count_ = 0;
    while (receive_operation* r = receivers_.front()) end_wait(*r);
    while (send_operation* s = senders_.front()) end_wait(*s);
    while (send_operation* s = waits_for_receiver_.front()) {
        s->task()->loop()->disarm(s->timer_);
        end_wait(*s);
    }
}

template<class Operation>
void datagrams_state::end_wait(Operation& op) noexcept {
    op.unlink();
    op.wake_to_retry();
}

// ---- the state: receiving

// One call takes several datagrams, and so shows mostly that no more are there: no second call has to find that out.
// It keeps an error that comes behind the first one for the next call, and the kernel may have told of it already.
bool datagrams_state::receive(receive_operation& op) noexcept {
    if (taken_ < count_) return true;
    if (source_.exhausted(direction::read)) return false;
    char* const room = room_to_receive(traits.limit * batch);
    if (!room) return op.no_memory_ = true;
    std::array<mmsghdr, batch> messages{};
    std::array<iovec, batch> parts;
    for (std::size_t i = 0; i < batch; ++i) {
        parts[i] = {room + i * traits.limit, traits.limit};
        messages[i].msg_hdr.msg_name = arrived_[i].datagram.from.detail_room();
        messages[i].msg_hdr.msg_namelen = *arrived_[i].datagram.from.detail_size();
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n;
    do { n = ::recvmmsg(source_.fd(), messages.data(), batch, MSG_TRUNC, nullptr); } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        op.error_ = errno;
        return true;
    }
    if (n < static_cast<int>(batch) && !source_.ending_seen()) source_.note_exhausted(direction::read);
    if (n < 0) {
        source_.note_exhausted(direction::read);
        return false;
    }
    taken_ = 0;
    count_ = static_cast<std::size_t>(n);
    for (std::size_t i = 0; i < count_; ++i) {
        arrival& a = arrived_[i];
        *a.datagram.from.detail_size() = messages[i].msg_hdr.msg_namelen;
        a.datagram.from = without_mapping(a.datagram.from);
        a.size = messages[i].msg_len;
        try {
            a.datagram.data.assign(room + i * traits.limit, std::min(a.size, traits.limit));
            a.no_memory = false;
        } catch (...) { a.no_memory = true; }
    }
    return true;
}

datagram datagrams_state::take_arrived() {
    arrival& first = arrived_[taken_++];
    datagram mine = std::move(first.datagram);
    serve_next_receiver();
    if (first.no_memory) throw std::bad_alloc();
    if (first.size > traits.limit) {
        throw_system_error(EMSGSIZE,
            "receive " + where_to_receive() + ": a datagram of " + std::to_string(first.size) + " bytes from " +
                or_something(mine.from.to_string()) + " is larger than the limit of " + std::to_string(traits.limit) +
                ", and lost");
    }
    return mine;
}

void datagrams_state::serve_next_receiver() noexcept {
    if (receive_operation* const next = receivers_.front()) next->wake_to_retry();
}

bool datagrams_state::join_receivers(receive_operation& op) noexcept {
    const bool first = op.linked() ? receivers_.front() == &op : receivers_.empty();
    if (first && receive(op)) {
        if (op.linked()) op.unlink();
        return true;
    }
    if (!op.linked()) receivers_.push_back(op);
    if (first) source_.park(direction::read, to_retry(op));
    return false;
}

void datagrams_state::leave_receivers(receive_operation& op) noexcept {
    if (op.linked()) {
        if (receivers_.front() == &op) source_.unpark(direction::read);
        op.unlink();
    }
    serve_next_receiver();
}

// ---- the state: sending

int datagrams_state::try_to_send(const char* data, std::size_t size, const address* to) noexcept {
    ssize_t n;
    do {
        n = to ? ::sendto(source_.fd(), data, size, MSG_NOSIGNAL, to->native(), to->native_size())
               : ::send(source_.fd(), data, size, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) return 0;
    return errno == EWOULDBLOCK ? EAGAIN : errno;
}

bool datagrams_state::join_senders(send_operation& op) noexcept {
    const bool first = op.linked() ? senders_.front() == &op : senders_.empty();
    if (op.close_) {
        if (!op.linked()) senders_.push_back(op);
        if (!first || !waits_for_receiver_.empty()) return false;
        op.unlink();
        close();
        return true;
    }
    const bool by_receiver = op.addressed_ && op.to_.is_unix();
    if (by_receiver && must_wait_for(op)) {
        wait_beside_line(op);  // the earlier one wakes it
        return false;
    }
    if (first || op.by_timer_) {
        int error = EAGAIN;
        if (by_receiver || !source_.exhausted(direction::write)) {
            error = try_to_send(op.data_, op.size_, op.addressed_ ? &op.to_ : nullptr);
        }
        if (error == EAGAIN && by_receiver) {
            wait_beside_line(op);
            try_again_later(op);
            return false;
        }
        if (error != EAGAIN) {
            op.error_ = error;
            leave_senders(op);
            return true;
        }
        source_.note_exhausted(direction::write);
    }
    if (!op.linked()) senders_.push_back(op);
    if (first) source_.park(direction::write, to_retry(op));
    return false;
}

// True if an earlier send to the same address waits.
bool datagrams_state::must_wait_for(const send_operation& op) const noexcept {
    for (send_operation* s = waits_for_receiver_.front(); s && s != &op; s = waits_for_receiver_.after(*s)) {
        if (s->to_ == op.to_) return true;
    }
    return false;
}

void datagrams_state::wait_beside_line(send_operation& op) noexcept {
    if (op.by_timer_) return;
    if (op.linked()) {
        op.unlink();
        serve_next_sender();
    }
    waits_for_receiver_.push_back(op);
    op.by_timer_ = true;
}

void datagrams_state::try_again_later(send_operation& op) noexcept {
    op.timer_.owner = &op;
    op.timer_.fire = [](timer_node& t) noexcept {
        static_cast<send_operation::retry_timer&>(t).owner->wake_to_retry();
    };
    loop_core& loop = *source_.loop();
    loop.disarm(op.timer_);
    loop.arm(op.timer_, delay(op.pause_).from(loop.now()));
    op.pause_ = std::min(2 * op.pause_, longest_pause);
}

void datagrams_state::serve_next_sender() noexcept {
    send_operation* const next = senders_.front();
    if (next && (!next->close_ || waits_for_receiver_.empty())) next->wake_to_retry();
}

void datagrams_state::leave_senders(send_operation& op) noexcept {
    if (op.by_timer_) {
        source_.loop()->disarm(op.timer_);
        op.by_timer_ = false;
        send_operation* next = op.linked() ? waits_for_receiver_.after(op) : nullptr;
        while (next && next->to_ != op.to_) next = waits_for_receiver_.after(*next);
        if (next) next->wake_to_retry();
    } else if (op.linked() && senders_.front() == &op) {
        source_.unpark(direction::write);
    }
    if (op.linked()) op.unlink();
    serve_next_sender();
}

// ---- receiving

bool receive_operation::start() noexcept {
    error_ = 0;
    no_memory_ = false;
    misuse_ = misuse_of(socket_, task_->loop());
    if (misuse_ != datagram_misuse::none) return true;
    if (socket_->closed()) {
        error_ = EBADF;
        return true;
    }
    return socket_->join_receivers(*this);
}

void receive_operation::unpark() noexcept {
    if (socket_ && !socket_->closed()) socket_->leave_receivers(*this);
}

datagram receive_operation::finish() {
    if (misuse_ != datagram_misuse::none) throw_misuse(misuse_, socket_.get(), nullptr);
    datagrams_state& s = *socket_;
    if (no_memory_ || error_ != 0) {
        s.serve_next_receiver();
        if (no_memory_) throw std::bad_alloc();
        throw_system_error(error_, "receive " + s.where_to_receive());
    }
    return s.take_arrived();
}

void receive_operation::describe(std::string& out) const {
    out += "a datagram ";
    out += socket_ ? socket_->where_to_receive() : std::string("on an empty socket");
}

// ---- sending

bool send_operation::start() noexcept { return refused() || socket_->join_senders(*this); }

// True if there is nothing to do. Notes why.
bool send_operation::refused() noexcept {
    if (close_ && !socket_) return true;
    misuse_ = misuse_of(socket_, task_->loop());
    if (misuse_ != datagram_misuse::none) return true;
    if (socket_->closed() || (socket_->closing && !close_ && !linked())) {
        error_ = close_ ? 0 : EBADF;
        return true;
    }
    if (close_) {
        socket_->closing = true;
        return false;
    }
    const datagram_traits& traits = socket_->traits;
    if (!addressed_) {
        if (!traits.peer) misuse_ = datagram_misuse::no_peer;
    } else {
        if (traits.both_families) to_ = with_mapping(to_);
        if (!to_ || to_.family() != traits.family) misuse_ = datagram_misuse::other_family;
    }
    return misuse_ != datagram_misuse::none;
}

void send_operation::unpark() noexcept {
    if (socket_ && !socket_->closed()) {
        socket_->leave_senders(*this);
    } else {
        task_->loop()->disarm(timer_);
    }
}

cancel_reply send_operation::cancel(const std::string& message) noexcept {
    if (close_ && socket_) {
        if (linked()) unlink();  // or close() would end it, and the cancel would come too late
        socket_->close();
    }
    return irrevocable<send_operation>::cancel(message);
}

std::string send_operation::whom() const {
    return addressed_ ? without_mapping(to_).to_string() : socket_->traits.peer.to_string();
}

void send_operation::finish() {
    if (misuse_ != datagram_misuse::none) throw_misuse(misuse_, socket_.get(), addressed_ ? &to_ : nullptr);
    if (error_ == 0) return;
    const std::string size = error_ == EMSGSIZE ? " (" + std::to_string(size_) + " bytes)" : std::string();
    throw_system_error(error_, "send to " + whom() + size);
}

void send_operation::describe(std::string& out) const {
    if (!socket_) {
        out += "an empty socket";
    } else if (close_) {
        out += "who sends on " + socket_->name();
    } else {
        out += "room to send to " + whom();
    }
}

}  // namespace detail

// ---- datagrams

datagrams& datagrams::operator=(datagrams&& other) noexcept {
    if (this != &other) {
        drop();
        state_ = std::move(other.state_);
    }
    return *this;
}

void datagrams::drop() noexcept {
    if (!state_) return;
    detail::datagrams_state& s = *state_;
    detail::loop_core* const loop = detail::local().loop;
    if (!s.closed() && loop && loop->debug && std::uncaught_exceptions() == 0) {
        loop->report(
            [&] { return "the socket of " + s.name() + " was destroyed before it was closed: co_await its aclose()"; },
            nullptr, nullptr);
    }
    s.close();
    state_ = {};
}

detail::datagrams_state& datagrams::get() const {
    if (!state_) detail::throw_misuse(detail::datagram_misuse::no_socket, nullptr, nullptr);
    return *state_;
}

address datagrams::local() const { return get().traits.local; }
address datagrams::peer() const { return get().traits.peer; }
int datagrams::descriptor() const { return get().descriptor(); }

}  // namespace aio::inline v0
