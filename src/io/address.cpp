// The value class aio::address, in the form that system calls take: no call has to convert it. Texts are read by
// inet_pton, which takes no octal and no short forms ("127.1", "010.0.0.1"), because programs disagree on what those
// mean.

#include "io/resolver.hpp"

#include <aio/errors.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

namespace aio::inline v0 {

namespace {

constexpr std::size_t name_offset = offsetof(sockaddr_un, sun_path);

template<class Native>
const Native& as(const address& a) noexcept {
    return *reinterpret_cast<const Native*>(a.native());
}
std::string_view bytes_of(const void* from, std::size_t size) noexcept {
    return {static_cast<const char*>(from), size};
}

// The name of a unix socket, with the NUL that begins an abstract one. The system may count the NUL that ends a path.
std::string_view name_of(const address& a) noexcept {
    if (a.native_size() <= name_offset) return {};
    const std::string_view name(as<sockaddr_un>(a).sun_path, a.native_size() - name_offset);
    return name[0] == '\0' ? name : name.substr(0, name.find('\0'));
}
std::string_view ip_of(const address& a) noexcept {
    if (a.is_ipv4()) return bytes_of(&as<sockaddr_in>(a).sin_addr, sizeof(in_addr));
    if (a.is_ipv6()) return bytes_of(&as<sockaddr_in6>(a).sin6_addr, sizeof(in6_addr));
    return {};
}
unsigned scope_of(const address& a) noexcept { return a.is_ipv6() ? as<sockaddr_in6>(a).sin6_scope_id : 0; }

}  // namespace

address::address(const std::string& host, int port) {
    detail::check_port(port);
    detail::require_no_nul(host, "the host of an address");
    in_addr ip4{};
    if (::inet_pton(AF_INET, host.c_str(), &ip4) == 1) {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr = ip4;
        std::memcpy(storage_, &a, sizeof a);
        size_ = sizeof a;
    } else {
        const std::size_t percent = host.find('%');
        sockaddr_in6 a{};
        a.sin6_family = AF_INET6;
        if (::inet_pton(AF_INET6, host.substr(0, percent).c_str(), &a.sin6_addr) != 1) {
            throw std::invalid_argument(
                "an address has a numeric host, and \"" + host + "\" is none: aio::resolve looks names up");
        }
        if (percent != std::string::npos) {
            a.sin6_scope_id = detail::interface_number(host.substr(percent + 1));
            if (a.sin6_scope_id == 0) detail::throw_system_error(ENODEV, "the interface of the address " + host);
        }
        std::memcpy(storage_, &a, sizeof a);
        size_ = sizeof a;
    }
    detail_set_port(port);
}

address address::from_native(const sockaddr* native, std::size_t size) {
    const int family = native && size >= sizeof(sa_family_t) ? native->sa_family : AF_UNSPEC;
    const std::size_t needed = family == AF_INET ? sizeof(sockaddr_in)
        : family == AF_INET6                     ? sizeof(sockaddr_in6)
        : family == AF_UNIX                      ? std::min<std::size_t>(size, room)
                                                 : room + 1;
    if (size < needed || (family == AF_UNIX && size > needed)) {
        throw std::invalid_argument("an address of family " + std::to_string(family) + " and " + std::to_string(size) +
            " bytes is neither IPv4 nor IPv6 nor a unix socket's");
    }
    address a;
    a.size_ = static_cast<unsigned>(needed);
    std::memcpy(a.storage_, native, needed);
    return a;
}

address address::unix_path(const std::string& path) { return detail::unix_address(path, "address: the path"); }

int address::family() const noexcept { return size_ < sizeof(sa_family_t) ? AF_UNSPEC : native()->sa_family; }
bool address::is_ipv4() const noexcept { return family() == AF_INET; }
bool address::is_ipv6() const noexcept { return family() == AF_INET6; }
bool address::is_unix() const noexcept { return family() == AF_UNIX; }
address::operator bool() const noexcept { return is_unix() ? size_ > name_offset : family() != AF_UNSPEC; }

int address::port() const noexcept {
    if (is_ipv4()) return ntohs(as<sockaddr_in>(*this).sin_port);
    if (is_ipv6()) return ntohs(as<sockaddr_in6>(*this).sin6_port);
    return 0;
}

void address::detail_set_port(int port) noexcept {
    const auto number = htons(static_cast<std::uint16_t>(port));
    if (is_ipv4()) reinterpret_cast<sockaddr_in*>(storage_)->sin_port = number;
    if (is_ipv6()) reinterpret_cast<sockaddr_in6*>(storage_)->sin6_port = number;
}

void address::detail_set_any(int port) noexcept {
    if (is_ipv4()) reinterpret_cast<sockaddr_in*>(storage_)->sin_addr.s_addr = htonl(INADDR_ANY);
    if (is_ipv6()) {
        reinterpret_cast<sockaddr_in6*>(storage_)->sin6_addr = in6addr_any;
        reinterpret_cast<sockaddr_in6*>(storage_)->sin6_scope_id = 0;
    }
    detail_set_port(port);
}

std::string address::host() const {
    if (is_unix()) return std::string(name_of(*this));
    char text[INET6_ADDRSTRLEN] = {};
    const std::string_view ip = ip_of(*this);
    if (ip.empty() || !::inet_ntop(family(), ip.data(), text, sizeof text)) return {};
    const unsigned scope = scope_of(*this);
    if (scope == 0) return text;
    char name[IF_NAMESIZE] = {};
    return std::string(text) + "%" + (::if_indextoname(scope, name) ? std::string(name) : std::to_string(scope));
}

std::string address::to_string() const {
    if (family() == AF_UNSPEC) return {};
    std::string name = host();
    if (!is_unix()) return detail::host_and_port(name, port());
    if (name.empty()) return "a unix socket";
    if (name[0] == '\0') name[0] = '@';
    return name;
}

std::strong_ordering address::compare(const address& a, const address& b) noexcept {
    if (const auto kinds = a.family() <=> b.family(); kinds != 0) return kinds;
    if (a.is_unix()) return name_of(a).compare(name_of(b)) <=> 0;
    if (const auto ips = ip_of(a).compare(ip_of(b)) <=> 0; ips != 0) return ips;
    if (const auto scopes = scope_of(a) <=> scope_of(b); scopes != 0) return scopes;
    return a.port() <=> b.port();
}

std::size_t address::hash() const noexcept {
    const std::size_t whole = std::hash<std::string_view>()(is_unix() ? name_of(*this) : ip_of(*this));
    const std::size_t rest =
        static_cast<std::size_t>(port()) << 32 ^ scope_of(*this) << 8 ^ static_cast<unsigned>(family());
    return whole ^ (rest * 0x9E3779B97F4A7C15u);
}

namespace detail {

address unix_address(const std::string& path, const char* what) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    if (path.empty()) throw std::invalid_argument(std::string(what) + " is empty");
    if (path[0] != '\0') require_no_nul(path, what);
    if (path.size() >= sizeof a.sun_path) throw_system_error(ENAMETOOLONG, "unix socket " + path);
    std::memcpy(a.sun_path, path.data(), path.size());
    const std::size_t end = path[0] == '\0' ? path.size() : path.size() + 1;
    return address::from_native(reinterpret_cast<const sockaddr*>(&a), name_offset + end);
}

std::string host_and_port(const std::string& host, int port) {
    const bool numeric6 = host.find(':') != std::string::npos;
    return (numeric6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

void check_port(int port) {
    if (port < 0 || port > 65535)
        throw std::invalid_argument("a port is between 0 and 65535, not " + std::to_string(port));
}

unsigned interface_number(const std::string& text) noexcept {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return number;
    return ::if_nametoindex(text.c_str());
}

address address_of_socket(int fd, bool peer) noexcept {
    address a;
    sockaddr* const into = a.detail_room();
    if ((peer ? ::getpeername(fd, into, a.detail_size()) : ::getsockname(fd, into, a.detail_size())) != 0) {
        const int error = errno;
        a = {};
        errno = error;
    }
    return a;
}

address require_socket(const descriptor& socket, int type, const char* what) {
    const int fd = socket.get();
    const std::string which = std::string(what) + ": descriptor " + std::to_string(fd);
    int its_type = 0;
    socklen_t size = sizeof its_type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &its_type, &size) != 0) throw_system_error(errno, which);
    if (its_type != type) {
        throw_system_error(EPROTOTYPE,
            which +
                (its_type == SOCK_DGRAM           ? " is a socket of datagrams"
                        : its_type == SOCK_STREAM ? " is a socket of streams"
                                                  : " is a socket of another type"));
    }
    const address own = address_of_socket(fd, false);
    if (own.family() == AF_UNSPEC) throw_system_error(EAFNOSUPPORT, which + " is no socket of IP, and no unix socket");
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        throw_system_error(errno, which);
    return own;
}

}  // namespace detail
}  // namespace aio::inline v0
