// What unix sockets can beside bytes: pass descriptors, and tell who the peer is.
//
// The kernel gives a descriptor with the first of the bytes that it was sent with, or with bytes before them, but never
// later. So the descriptors form a line of their own, as in D-Bus and Wayland: whoever has read a message finds there
// what came with it. A stream that was not told to keep descriptors has the kernel close them on arrival, so no peer
// can use up the descriptors of a process that expects none.

#include "io/passing.hpp"

#include "io/place_in_line.hpp"
#include "io/resolver.hpp"

#include <aio/stream.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>

namespace aio::inline v0 {
namespace detail {

ssize_t receive_passed(int fd, void* into, std::size_t size, passed_descriptors& passed) noexcept {
    alignas(cmsghdr) char control[CMSG_SPACE(most_passed_at_once * sizeof(int))];
    const std::size_t room = std::min(passed.most - std::min(passed.most, passed.all.size()), most_passed_at_once);
    iovec part{into, size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room > 0 ? control : nullptr;
    message.msg_controllen = room > 0 ? CMSG_LEN(room * sizeof(int)) : 0;
    const ssize_t n = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (n < 0) return n;
    if (message.msg_flags & MSG_CTRUNC) passed.lost = true;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int one;
            std::memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
            descriptor mine(one);
            if (passed.all.size() < passed.most) {
                passed.all.push_back(std::move(mine));
            } else {
                passed.lost = true;  // alignment had left room for one more
            }
        }
    }
    return n;
}

ssize_t send_passing(int fd, const void* data, std::size_t size, const std::vector<int>& descriptors) noexcept {
    alignas(cmsghdr) char control[CMSG_SPACE(most_passed_at_once * sizeof(int))] = {};
    const std::size_t bytes = descriptors.size() * sizeof(int);
    iovec part{const_cast<void*>(data), size};  // sendmsg reads it alone
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (bytes > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr* const c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(c), descriptors.data(), bytes);
    }
    return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

namespace {

passed_descriptors& require_passing(const stream_ptr& stream, const char* what) {
    if (!stream) throw_stream_misuse(stream_misuse::no_stream, nullptr);
    if (stream->closed()) throw_system_error(EBADF, std::string(what) + ": the stream to " + stream->peer);
    passed_descriptors* const passed = stream->passed();
    if (!passed) throw_logic_error(std::string(what) + ": " + stream->peer + " is not the peer of a unix socket");
    return *passed;
}

passed_descriptors& require_keeping(const stream_ptr& stream, const char* what) {
    passed_descriptors& passed = require_passing(stream, what);
    if (passed.most == 0) {
        throw_logic_error(std::string(what) +
            ": descriptors that come are closed at once: say in the options how many to keep, by max_descriptors");
    }
    return passed;
}

coro<> send_with_descriptors(stream_ptr stream, std::string data, std::vector<int> descriptors) {
    place_in_line place(stream);
    co_await place.first;
    file_part part{-1, 0, data.size()};
    part.text = data.data();
    part.passed = &descriptors;
    write_operation passing(stream, write_operation::holder(), part);
    co_await passing;
    place.sent = passing.sent();
    if (part.refused) throw_system_error(part.error, "send descriptors to " + stream->peer);
    if (place.sent < data.size()) {
        write_operation rest(stream, write_operation::holder(), data.data() + place.sent, data.size() - place.sent);
        co_await rest;
    }
    place.finished = true;
}

// The bytes go back to where they were: only the descriptors are lost.
void put_back(byte_buffer& buffer, const std::string& data) {
    const std::string bytes = data + std::string(buffer.view());
    buffer.consume(buffer.size());
    std::memcpy(buffer.room_for(bytes.size()), bytes.data(), bytes.size());
    buffer.filled(bytes.size());
}

coro<received_descriptors> receive_with_descriptors(stream_ptr stream, std::size_t n) {
    received_descriptors received;
    received.data = co_await read_operation(stream, read_until_what::something, n);
    if (stream->closed()) co_return received;
    try {
        received.descriptors = take_passed(*stream->passed(), stream->peer);
    } catch (...) {
        put_back(stream->buffer, received.data);
        throw;
    }
    co_return received;
}

}  // namespace

std::vector<descriptor> take_passed(passed_descriptors& passed, const std::string& peer) {
    if (std::exchange(passed.lost, false)) {
        throw_system_error(EMSGSIZE,
            "descriptors that " + peer +
                " has passed are lost: more than max_descriptors were not taken, or this process "
                "can open no more");
    }
    std::vector<descriptor> room;
    room.reserve(passed.most);  // before anything is taken: it may throw
    return std::exchange(passed.all, std::move(room));
}

}  // namespace detail

coro<> stream::send_descriptors(std::string data, std::vector<int> descriptors) {
    detail::require_passing(state_, "send_descriptors");
    if (data.empty())
        throw std::invalid_argument("send_descriptors: descriptors go along with bytes, and there are none");
    if (descriptors.empty() || descriptors.size() > detail::most_passed_at_once) {
        throw std::invalid_argument("send_descriptors: between 1 and " + std::to_string(detail::most_passed_at_once) +
            " descriptors, not " + std::to_string(descriptors.size()));
    }
    return detail::send_with_descriptors(state_, std::move(data), std::move(descriptors));
}

coro<received_descriptors> stream::receive_descriptors(std::size_t n) {
    detail::require_keeping(state_, "receive_descriptors");
    return detail::receive_with_descriptors(state_, n);
}

std::vector<descriptor> stream::take_descriptors() {
    return detail::take_passed(detail::require_keeping(state_, "take_descriptors"), state_->peer);
}

credentials stream::peer_credentials() const {
    detail::require_passing(state_, "peer_credentials");
    ucred system{};
    socklen_t size = sizeof system;
    if (::getsockopt(state_->descriptor(), SOL_SOCKET, SO_PEERCRED, &system, &size) != 0)
        detail::throw_system_error(errno, "peer_credentials of " + state_->peer);
    return {system.pid, system.uid, system.gid};
}

}  // namespace aio::inline v0
