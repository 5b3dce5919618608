#pragma once
// What the library needs of addresses beside aio::address; how a name becomes addresses: getaddrinfo runs on threads of
// its own, so that a slow name server delays nothing else. stream, server and their unix variants take their addresses
// from here.

#include <aio/address.hpp>
#include <aio/coro.hpp>
#include <aio/descriptor.hpp>

#include <string>
#include <vector>

namespace aio::inline v0::detail {

/// The address of a unix socket. A path that begins with a NUL is an abstract name; any other one may hold no NUL.
/// Throws std::invalid_argument for an empty path or a NUL, with a message that begins with what; std::system_error
/// with ENAMETOOLONG.
address unix_address(const std::string& path, const char* what);
/// "host:port"; with brackets for a numeric IPv6 address: "[::1]:80".
std::string host_and_port(const std::string& host, int port);
/// Throws std::invalid_argument unless the port is between 0 and 65535.
void check_port(int port);
/// The address of this end of a socket, or of its peer's; none if that fails, and then errno says why.
address address_of_socket(int fd, bool peer) noexcept;
/// Readies a socket that the caller has opened: it does not block any more, and is close-on-exec. Gives its address.
/// Throws std::system_error, in the words of what: EBADF, ENOTSOCK, EPROTOTYPE if it is of another type (SOCK_STREAM),
/// EAFNOSUPPORT if it is neither IP nor unix.
address require_socket(const descriptor& socket, int type, const char* what);
/// The number of an interface that is given by its name or its number; 0 if there is none.
unsigned interface_number(const std::string& text) noexcept;

/// Gives the TCP addresses of host, in the order in which to try them. A numeric host is not looked up. passive asks
/// for addresses to listen on; the host "" is every interface then, and localhost otherwise. A cancel ends the wait at
/// once, and a look-up that a thread has begun ends by itself. Throws std::invalid_argument for a NUL in the name, and
/// std::system_error: of resolver_category(), or of generic_category() where getaddrinfo gives an errno.
coro<std::vector<address>> resolve(std::string host, int port, bool passive);

}  // namespace aio::inline v0::detail
