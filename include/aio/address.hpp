#pragma once
// The address of a socket: an IP address with its port, or the name of a unix socket; and how the name of a host
// becomes addresses. Source: the tuples and strings that Python's socket module calls addresses.
//
//     aio::address server("192.0.2.7", 53);
//     std::printf("%s\n", server.to_string().c_str());            // 192.0.2.7:53
//     for (const aio::address& a : co_await aio::resolve("example.org", 443)) {
//         std::printf("%s port %d\n", a.host().c_str(), a.port());
//     }
//     std::map<aio::address, int> requests;                       // they have an order and a std::hash
//     ++requests[server];

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>

#include <compare>
#include <cstddef>
#include <string>
#include <vector>

struct sockaddr;

namespace aio::inline v0 {

/// A value, which is copied without allocating. A default-constructed one is no address. Addresses are equal if all
/// that the system tells apart is equal: kind, IP address, port, scope; or the name. 127.0.0.1 is not ::ffff:127.0.0.1.
class address {
public:
    address() noexcept = default;
    /// host is numeric: "192.0.2.7", "2001:db8::1", or "fe80::1%eth0" with a scope, which is an interface's name or
    /// number. A name has no single address: resolve() looks it up. Throws std::invalid_argument for anything else, and
    /// for a port that is not between 0 and 65535; std::system_error (ENODEV) if there is no such interface.
    address(const std::string& host, int port);
    /// A unix socket's. A name that begins with a NUL is an abstract one, and no file. Throws std::invalid_argument for
    /// an empty path and for a NUL further inside of a path; std::system_error (ENAMETOOLONG) beyond 107 bytes.
    static address unix_path(const std::string& path);
    /// What a system call has given, or another library has. Throws std::invalid_argument if that is neither IPv4 nor
    /// IPv6 nor a unix socket's, or too short.
    static address from_native(const sockaddr* native, std::size_t size);

    /// "192.0.2.7", "fe80::1%eth0"; a unix socket's path, or its abstract name, which begins with a NUL. Empty if there
    /// is no address.
    std::string host() const;
    int port() const noexcept;  // 0 for unix sockets
    /// For people: "192.0.2.7:53", "[fe80::1%eth0]:53", "/run/name"; "@name" for an abstract name, "a unix socket" for
    /// one without a name. Empty if there is no address.
    std::string to_string() const;

    bool is_ipv4() const noexcept;  // The family is AF_INET.
    bool is_ipv6() const noexcept;  // The family is AF_INET6.
    bool is_unix() const noexcept;  // The family is AF_UNIX.
    /// False if nothing can be sent there: it is default-constructed, or a unix socket's without a name.
    explicit operator bool() const noexcept;

    /// For system calls: AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC (0); the address in the system's form, and its size.
    int family() const noexcept;
    /// The address as bind() and sendto() take it. It is valid as long as this object.
    const sockaddr* native() const noexcept { return reinterpret_cast<const sockaddr*>(storage_); }
    unsigned native_size() const noexcept { return size_; }  // How many bytes native() has; 0 if there is no address.

    friend bool operator==(const address& a, const address& b) noexcept { return compare(a, b) == 0; }
    friend std::strong_ordering operator<=>(const address& a, const address& b) noexcept { return compare(a, b); }
    std::size_t hash() const noexcept;  // What std::hash gives; equal addresses have the same.

    // For the library: room for a system call that writes an address. size says before the call how much room there is.
    sockaddr* detail_room() noexcept {
        size_ = room;
        return reinterpret_cast<sockaddr*>(storage_);
    }
    unsigned* detail_size() noexcept { return &size_; }
    void detail_set_port(int port) noexcept;
    void detail_set_any(int port) noexcept;  // of the same family: every interface

private:
    static constexpr unsigned room = 112;
    static std::strong_ordering compare(const address& a, const address& b) noexcept;
    alignas(8) std::byte storage_[room] = {};  // a sockaddr
    unsigned size_ = 0;
};

/// Gives the addresses of host, in the order in which to try them: as the system sorts them, IPv4 and IPv6 in turns. A
/// numeric host is not looked up and never waits; "" is localhost. The look-up (getaddrinfo) runs on a thread of its
/// own. A cancel ends the wait at once, and a look-up that has begun ends by itself. Revertible. Throws
/// std::system_error that names the host, of resolver_category() (EAI_NONAME, EAI_AGAIN) or, where getaddrinfo gives an
/// errno, of std::generic_category(); std::invalid_argument for a NUL in the name or a port beyond 65535. Source:
/// loop.getaddrinfo.
coro<std::vector<address>> resolve(std::string host, int port);

/// The category of getaddrinfo's errors (EAI_NONAME ...).
const std::error_category& resolver_category() noexcept;

}  // namespace aio::inline v0

template<>
struct std::hash<aio::address> {
    std::size_t operator()(const aio::address& a) const noexcept { return a.hash(); }
};
