#pragma once
// Sockets for datagrams, of UDP and of unix: each send is one message, and each receive gives one, whole. UDP promises
// neither that a datagram arrives nor the order. Source: loop.create_datagram_endpoint.
//
//     aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0);
//     aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", server.local().port());
//     co_await client.send("hello");
//     aio::datagram m = co_await server.receive();
//     co_await server.send("hello " + m.from.to_string(), m.from);
//     std::string answer = (co_await client.receive()).data;
//     co_await client.aclose();
//     co_await server.aclose();
//
// Several tasks may receive, and several may send: they take turns, first come first served, and each datagram goes to
// one of them. An error of the system is a std::system_error that names the operation and the address; the socket can
// be used further. A mistake of the caller (an empty object, a socket of another loop, no address to send to) is a
// std::logic_error.

#include <aio/detail/base/platform.hpp>

#include <aio/address.hpp>
#include <aio/coro.hpp>
#include <aio/descriptor.hpp>
#include <aio/detail/io/bytes.hpp>
#include <aio/detail/io/datagram_operations.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace aio::inline v0 {

/// A message, and who has sent it. from is no address if a unix socket without a name has sent it.
struct datagram {
    std::string data;  // the whole message, which may be empty
    address from;      // the sender
};

/// reuse_port: several processes bind the same port, and share what comes. broadcast: sends to broadcast addresses are
/// allowed. multicast_group: the group to join ("239.255.0.1", "ff02::123"); the port can be bound by others, too.
/// multicast_interface: where to join it and where to send to groups, by name, by number, or by an IPv4 address of it;
/// the system chooses otherwise. multicast_loop: sockets of this machine get what is sent to groups. multicast_ttl: how
/// many hops that goes. limit: the bytes of the largest datagram that is received. send_buffer, receive_buffer: bytes
/// that the system keeps; 0 leaves its default. local, local_port: where a connected socket is bound, a numeric address
/// or a path; the system chooses otherwise.
struct datagram_options {
    bool reuse_port = false;
    bool broadcast = false;
    std::string_view multicast_group = {};
    std::string_view multicast_interface = {};
    bool multicast_loop = true;
    int multicast_ttl = 1;
    std::size_t limit = 262'144;
    std::size_t send_buffer = 0;
    std::size_t receive_buffer = 0;
    std::string_view local = {};
    int local_port = 0;
};

/// A socket; movable. The destructor closes it at once (debug mode reports that nobody awaited aclose()). Operations
/// that other tasks have under way then throw std::system_error (EBADF), as all do once the socket is closed.
class datagrams {
public:
    datagrams() noexcept = default;
    explicit datagrams(detail::datagrams_ref state) noexcept : state_(std::move(state)) {}
    datagrams(datagrams&&) noexcept = default;
    datagrams& operator=(datagrams&& other) noexcept;
    ~datagrams() { drop(); }

    /// Gives the next datagram, which may be empty. Revertible: a cancel loses no datagram. Throws std::system_error:
    /// EMSGSIZE for a datagram larger than options.limit, which is lost; on a connected socket what the network has
    /// answered to an earlier send (ECONNREFUSED: nobody is bound to the peer's port). std::bad_alloc: there is no
    /// memory for a datagram, which is lost if it has been received. Source: DatagramProtocol.datagram_received.
    detail::receive_operation receive() { return detail::receive_operation(state_); }

    /// Sends one datagram to the given address, or to the peer of a connected socket. Completes when the system has
    /// taken it; waits while the send buffer, or the queue of a unix socket's receiver, is full. data must live until
    /// then, unless it is a temporary that owns its bytes, like "a" + name: that one becomes the operation's.
    /// Irrevocable, but a cancel while it waits gives up, and nothing is sent. Throws std::system_error: EMSGSIZE for
    /// more than UDP can carry (65,507 bytes with IPv4), EACCES for a broadcast without options.broadcast,
    /// ENETUNREACH; on a connected socket, also what the network has answered to an earlier send (ECONNREFUSED), and
    /// then this datagram was not sent. Source: DatagramTransport.sendto.
    detail::send_operation send(std::string_view data) { return {state_, data.data(), data.size(), nullptr}; }
    detail::send_operation send(std::span<const std::byte> data) { return {state_, data.data(), data.size(), nullptr}; }
    template<detail::owned_bytes D>
    detail::owned_send_operation send(D&& data) {
        return {state_, detail::take_bytes(data), nullptr};
    }
    detail::send_operation send(std::string_view data, const address& to) {
        return {state_, data.data(), data.size(), &to};
    }
    detail::send_operation send(std::span<const std::byte> data, const address& to) {
        return {state_, data.data(), data.size(), &to};
    }
    template<detail::owned_bytes D>
    detail::owned_send_operation send(D&& data, const address& to) {
        return {state_, detail::take_bytes(data), &to};
    }

    /// Receives what is sent to one more multicast group, and no longer; interface as in datagram_options. Throws
    /// std::system_error that names the group (ENODEV: no such interface; EADDRINUSE: it has joined already;
    /// EADDRNOTAVAIL: it has not), std::invalid_argument for an address that is no group of the socket's family.
    void join_group(const std::string& group, const std::string& interface = {});
    /// Leaves a group that join_group() has joined. Its arguments and errors are those of join_group().
    void leave_group(const std::string& group, const std::string& interface = {});

    /// Closes the socket, after the sends under way. A cancel closes it at once. A second call does nothing. The file
    /// of a unix socket is removed if it is still the one that was made.
    detail::send_operation aclose() { return detail::send_operation(state_); }

    /// The address of this end, with the port that the system has chosen. Kept when the socket is closed.
    address local() const;
    /// The other end of a connected socket; otherwise no address.
    address peer() const;
    /// For socket options; -1 once the socket is closed.
    int descriptor() const;
    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }

private:
    void drop() noexcept;
    detail::datagrams_state& get() const;
    detail::datagrams_ref state_;
};

/// Receives datagrams at host (a name or address; "" is every interface, of IPv4 and of IPv6) and port (0: a free one),
/// and sends from there. Of a name with several addresses, the first one that can be bound is taken. With a
/// multicast_group, host "" is every interface of the group's family. Throws std::system_error that names the address
/// (EADDRINUSE, EACCES), or has an error of resolver_category(); std::invalid_argument for options that fit nothing.
/// Source: loop.create_datagram_endpoint(local_addr=...).
coro<datagrams> bind_datagrams(std::string host, int port, datagram_options options = {});
/// Takes over a socket of datagrams, bound or connected, IP or unix: an inherited one (inherited_sockets()), or one of
/// another library. Of the options, limit alone is used. Throws std::system_error that says what it is: EBADF or
/// ENOTSOCK, EPROTOTYPE for a socket of another type. Source: loop.create_datagram_endpoint(sock=...).
coro<datagrams> bind_datagrams(descriptor socket, datagram_options options = {});
/// A socket that sends to one peer, and receives from it alone. Nothing is sent for that, so nobody need be there: of a
/// name with several addresses, the first one that this machine has a route to is taken. Throws std::system_error that
/// names host, port and each address with its error, or has an error of resolver_category(). Source:
/// loop.create_datagram_endpoint(remote_addr=...).
coro<datagrams> connect_datagrams(std::string host, int port, datagram_options options = {});

/// Receives datagrams at the unix socket at path, or at an abstract name, which begins with a NUL. The file of a socket
/// to which no process is bound any more is replaced. Throws std::system_error that names the path (EADDRINUSE).
coro<datagrams> bind_unix_datagrams(std::string path, datagram_options options = {});
/// Sends to the unix socket at path. Without options.local the system gives this end an abstract name, so that the peer
/// can answer. Throws std::system_error that names the path (ENOENT, ECONNREFUSED: nobody is bound to it).
coro<datagrams> connect_unix_datagrams(std::string path, datagram_options options = {});

}  // namespace aio::inline v0
