#pragma once
// Addresses, and names to addresses: getaddrinfo on threads of its own, so that a slow name server delays nothing else.

#include <aio/coro.hpp>

#include <string>
#include <vector>

#include <sys/socket.h>

namespace aio::detail {

/// Where a socket can connect to or listen on.
struct address {
    sockaddr_storage storage{};
    socklen_t length = 0;

    int family() const noexcept { return storage.ss_family; }
    const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
    sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
    int port() const noexcept;  // 0 for unix sockets
    void set_port(int port) noexcept;
    /// "127.0.0.1:80", "[::1]:80", a path.
    std::string text() const;
};

/// A path that begins with a NUL is an abstract name. Throws std::system_error with ENAMETOOLONG, std::invalid_argument
/// for an empty path and for a NUL elsewhere; what is the beginning of that sentence.
address unix_address(const std::string& path, const char* what);
/// "host:port", "[::1]:80".
std::string host_and_port(const std::string& host, int port);
/// Throws std::invalid_argument unless it is between 0 and 65535.
void check_port(int port);

/// The TCP addresses of host, in the order to be tried. A numeric one is not looked up. passive: to listen on; "" is
/// every interface then, else localhost. A cancel gives up at once; the look-up itself ends by itself. Throws
/// std::system_error of resolver_category().
coro<std::vector<address>> resolve(std::string host, int port, bool passive);

}  // namespace aio::detail
