// Makes the sockets of aio::datagrams: names are resolved, addresses tried one after the other, options set, groups
// joined. Nothing of that waits but the look-up of a name. datagrams.cpp has what such a socket does.

#include "io/datagrams_state.hpp"
#include "io/resolver.hpp"

#include <aio/descriptor.hpp>
#include <aio/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace aio::inline v0 {
namespace detail {

namespace {

/// The options, with texts of their own.
class datagram_settings {
public:
    explicit datagram_settings(const datagram_options& o)
        : options(o), group(o.multicast_group), interface(o.multicast_interface), local(o.local) {}
    datagram_options options;
    std::string group, interface, local;
};

/// An interface for multicasts: its number, or an IPv4 address of it, or neither if the system chooses.
struct multicast_interface {
    unsigned number = 0;
    in_addr ip{};

    explicit multicast_interface(const std::string& name) {
        if (name.empty() || ::inet_pton(AF_INET, name.c_str(), &ip) == 1) return;
        number = interface_number(name);
        if (number == 0) throw_system_error(ENODEV, "the interface " + name + " for multicasts");
    }
};

bool is_group(const address& a) noexcept {
    if (a.is_ipv4()) return IN_MULTICAST(ntohl(reinterpret_cast<const sockaddr_in*>(a.native())->sin_addr.s_addr));
    return a.is_ipv6() && IN6_IS_ADDR_MULTICAST(&reinterpret_cast<const sockaddr_in6*>(a.native())->sin6_addr);
}

address group_address(const std::string& text) {
    const address group(text, 0);
    if (!is_group(group)) throw std::invalid_argument("\"" + text + "\" is no multicast group");
    return group;
}

template<class Value>
int set(int fd, int level, int name, const Value& value) noexcept {
    return ::setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : errno;
}

// Gives 0 or an errno. Linux gives a socket what any socket of the machine has joined, unless it is told not to.
int change_group(int fd, const address& group, const multicast_interface& at, bool join) noexcept {
    if (group.is_ipv4()) {
        ip_mreqn request{};
        request.imr_multiaddr = reinterpret_cast<const sockaddr_in*>(group.native())->sin_addr;
        request.imr_address = at.ip;
        request.imr_ifindex = static_cast<int>(at.number);
        if (join) set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
        return set(fd, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, request);
    }
    const auto& native = *reinterpret_cast<const sockaddr_in6*>(group.native());
    ipv6_mreq request{};
    request.ipv6mr_multiaddr = native.sin6_addr;
    request.ipv6mr_interface = at.number != 0 ? at.number : native.sin6_scope_id;
#ifdef IPV6_MULTICAST_ALL
    if (join) set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
#endif
    return set(fd, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, request);
}

// Gives 0 or an errno.
int set_multicast_options(int fd, int family, const datagram_options& o, const multicast_interface& at) noexcept {
    const int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    int error = 0;
    if (at.number != 0 || at.ip.s_addr != 0) {
        ip_mreqn request{};
        request.imr_address = at.ip;
        request.imr_ifindex = static_cast<int>(at.number);
        error = family == AF_INET ? set(fd, level, IP_MULTICAST_IF, request)
                                  : set(fd, level, IPV6_MULTICAST_IF, request.imr_ifindex);
    }
    if (error == 0 && !o.multicast_loop) {
        error = set(fd, level, family == AF_INET ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP, 0);
    }
    if (error == 0 && o.multicast_ttl != 1) {
        error = set(fd, level, family == AF_INET ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS, o.multicast_ttl);
    }
    return error;
}

int size_option(std::size_t size) noexcept { return static_cast<int>(std::min<std::size_t>(size, INT_MAX / 2)); }

// Opens a socket with its options. Gives 0 or an errno.
int open_socket(descriptor& socket, datagram_traits& traits, const datagram_settings& s) {
    const datagram_options& o = s.options;
    socket = descriptor(::socket(traits.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) return errno;
    const int fd = socket.get();
    int error = 0;
    if (traits.family == AF_INET6) error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, traits.both_families ? 0 : 1);
    if (error == 0 && o.reuse_port) error = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (error == 0 && !s.group.empty()) error = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && o.broadcast) error = set(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (error == 0 && o.send_buffer > 0) error = set(fd, SOL_SOCKET, SO_SNDBUF, size_option(o.send_buffer));
    if (error == 0 && o.receive_buffer > 0) error = set(fd, SOL_SOCKET, SO_RCVBUF, size_option(o.receive_buffer));
    if (error != 0 || traits.family == AF_UNIX) return error;
    const multicast_interface at(s.interface);
    error = set_multicast_options(fd, traits.family, o, at);
    if (error == 0 && traits.both_families) error = set_multicast_options(fd, AF_INET, o, at);
    return error;
}

void check(const datagram_settings& s, bool is_unix) {
    const datagram_options& o = s.options;
    if (o.limit == 0) throw std::invalid_argument("datagrams: a limit of 0 bytes receives nothing");
    if (o.multicast_ttl < 0 || o.multicast_ttl > 255)
        throw std::invalid_argument(
            "datagrams: multicast_ttl is between 0 and 255, not " + std::to_string(o.multicast_ttl));
    if (is_unix && (!s.group.empty() || !s.interface.empty() || o.broadcast))
        throw std::invalid_argument("datagrams: unix sockets know neither multicasts nor broadcasts");
    check_port(o.local_port);
}

datagrams finish_socket(descriptor& socket, const datagram_traits& traits) {
    return datagrams(datagrams_ref(new datagrams_state(socket.release(), traits)));
}

// "what (address: error; address: error)", with the first error as the code.
[[noreturn]] void throw_all(
    const std::string& what, const std::vector<address>& where, const std::vector<int>& errors) {
    std::string text = what;
    for (std::size_t i = 0; i < errors.size() && where.size() > 1; ++i) {
        text += (i == 0 ? ", each address failed (" : "; ") + where[i].to_string() + ": " +
            std::generic_category().message(errors[i]);
    }
    if (where.size() > 1) text += ")";
    throw_system_error(errors.empty() ? EADDRNOTAVAIL : errors.front(), text);
}

/// Calls attempt(address, socket, traits), which gives 0 or an errno, for one address after the other.
template<class Attempt>
datagrams first_that_works(const std::string& what, const std::vector<address>& where, const datagram_settings& s,
    bool every_interface, Attempt attempt) {
    std::vector<int> errors;
    for (const address& a : where) {
        descriptor socket;
        datagram_traits traits;
        traits.family = a.family();
        traits.both_families = every_interface && a.is_ipv6();
        traits.limit = s.options.limit;
        int error = open_socket(socket, traits, s);
        if (error == 0) error = attempt(a, socket.get(), traits);
        if (error == 0) {
            traits.local = address_of_socket(socket.get(), false);
            return finish_socket(socket, traits);
        }
        errors.push_back(error);
    }
    throw_all(what, where, errors);
}

int bind_to(int fd, const address& a) noexcept { return ::bind(fd, a.native(), a.native_size()) == 0 ? 0 : errno; }

coro<datagrams> bind_ip(std::string host, int port, datagram_settings s) {
    check_port(port);
    check(s, false);
    const address group = s.group.empty() ? address() : group_address(s.group);
    const multicast_interface at(s.interface);
    const bool every_interface = host.empty();
    std::vector<address> where;
    if (every_interface) {
        if (!group || group.is_ipv6()) where.emplace_back("::", port);
        if (!group || group.is_ipv4()) where.emplace_back("0.0.0.0", port);
    } else {
        where = co_await resolve(host, port, true);
    }
    if (group) std::erase_if(where, [&](const address& a) { return a.family() != group.family(); });
    if (where.empty()) {
        throw std::invalid_argument(
            "bind_datagrams: \"" + host + "\" is of another family than the multicast group " + s.group);
    }
    const std::string what =
        "bind datagrams to " + (where.size() == 1 ? where[0].to_string() : host_and_port(host, port));
    co_return first_that_works(
        what, where, s, every_interface && !group, [&](const address& a, int fd, datagram_traits&) {
            const int error = bind_to(fd, a);
            if (error != 0 || !group) return error;
            if (const int join = change_group(fd, group, at, true))
                throw_system_error(join, "join the multicast group " + s.group);
            return 0;
        });
}

coro<datagrams> connect_ip(std::string host, int port, datagram_settings s) {
    check_port(port);
    check(s, false);
    if (!s.group.empty())
        throw std::invalid_argument(
            "connect_datagrams: a connected socket receives from its peer alone, not from a group");
    const std::string what = "connect datagrams to " + host_and_port(host.empty() ? "localhost" : host, port);
    const address from = s.local.empty() ? address() : address(s.local, s.options.local_port);
    std::vector<address> where = co_await resolve(std::move(host), port, false);
    if (from) std::erase_if(where, [&](const address& a) { return a.family() != from.family(); });
    if (where.empty())
        throw_system_error(EAFNOSUPPORT, what + ": it has no address of the family of " + from.to_string());
    co_return first_that_works(what, where, s, false, [&](const address& a, int fd, datagram_traits& traits) {
        traits.peer = a;
        int error = 0;
        if (from) {
            error = bind_to(fd, from);
        } else if (s.options.local_port != 0) {
            error = bind_to(fd, address(a.is_ipv4() ? "0.0.0.0" : "::", s.options.local_port));
        }
        if (error != 0) return error;
        return ::connect(fd, a.native(), a.native_size()) == 0 ? 0 : errno;
    });
}

coro<datagrams> bind_unix_name(std::string path, datagram_settings s) {
    check(s, true);
    const address where = unix_address(path, "bind_unix_datagrams: the path");
    descriptor socket;
    datagram_traits traits;
    traits.family = AF_UNIX;
    traits.limit = s.options.limit;
    traits.local = where;
    int error = open_socket(socket, traits, s);
    function<int()> bind = [&] { return bind_to(socket.get(), where); };
    if (error == 0) error = co_await bind_unix(where, bind);
    if (error != 0) throw_system_error(error, "bind datagrams to " + where.to_string());
    traits.file.note(where);
    co_return finish_socket(socket, traits);
}

coro<datagrams> connect_unix_name(std::string path, datagram_settings s) {
    check(s, true);
    const address where = unix_address(path, "connect_unix_datagrams: the path");
    const address from = s.local.empty() ? address() : unix_address(s.local, "connect_unix_datagrams: the local path");
    descriptor socket;
    datagram_traits traits;
    traits.family = AF_UNIX;
    traits.limit = s.options.limit;
    traits.peer = where;
    int error = open_socket(socket, traits, s);
    if (error != 0) throw_system_error(error, "connect datagrams to " + where.to_string());
    if (from) {
        function<int()> bind = [&] { return bind_to(socket.get(), from); };
        error = co_await bind_unix(from, bind);
        if (error != 0) throw_system_error(error, "bind datagrams to " + from.to_string());
        traits.file.note(from);
    } else {
        sockaddr chosen_by_system{};
        chosen_by_system.sa_family = AF_UNIX;
        // Without a name nobody can answer. That this fails says little: the peer may be one that never answers.
        static_cast<void>(::bind(socket.get(), &chosen_by_system, sizeof chosen_by_system.sa_family));
    }
    error = ::connect(socket.get(), where.native(), where.native_size()) == 0 ? 0 : errno;
    traits.local = from ? from : address_of_socket(socket.get(), false);
    if (error != 0) {
        traits.file.remove(traits.local);
        throw_system_error(error, "connect datagrams to " + where.to_string());
    }
    co_return finish_socket(socket, traits);
}

coro<datagrams> take_over(descriptor socket, std::size_t limit) {
    datagram_traits traits;
    traits.local = require_socket(socket, SOCK_DGRAM, "bind_datagrams");
    traits.peer = address_of_socket(socket.get(), true);
    traits.family = traits.local.family();
    traits.limit = limit;
    int v6_alone = 1;
    socklen_t size = sizeof v6_alone;
    if (traits.family == AF_INET6) ::getsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_alone, &size);
    traits.both_families = v6_alone == 0;
    co_return finish_socket(socket, traits);
}

void change_group_of(const datagrams_state& socket, const std::string& text, const std::string& interface, bool join) {
    const char* const what = join ? "join the multicast group " : "leave the multicast group ";
    const address group = group_address(text);
    if (socket.closed()) throw_system_error(EBADF, what + text);
    if (group.family() != socket.traits.family && !(socket.traits.both_families && group.is_ipv4()))
        throw std::invalid_argument(what + text + ": the socket of " + socket.name() + " is of another family");
    const int error = change_group(socket.descriptor(), group, multicast_interface(interface), join);
    if (error != 0) throw_system_error(error, what + text + (interface.empty() ? "" : " at " + interface));
}

}  // namespace
}  // namespace detail

void datagrams::join_group(const std::string& group, const std::string& interface) {
    detail::change_group_of(get(), group, interface, true);
}
void datagrams::leave_group(const std::string& group, const std::string& interface) {
    detail::change_group_of(get(), group, interface, false);
}

// These are no coroutines: they copy what the options refer to before they return.
coro<datagrams> bind_datagrams(std::string host, int port, datagram_options options) {
    return detail::bind_ip(std::move(host), port, detail::datagram_settings(options));
}
coro<datagrams> bind_datagrams(descriptor socket, datagram_options options) {
    const detail::datagram_settings settings(options);
    detail::check(settings, false);
    return detail::take_over(std::move(socket), options.limit);
}
coro<datagrams> connect_datagrams(std::string host, int port, datagram_options options) {
    return detail::connect_ip(std::move(host), port, detail::datagram_settings(options));
}
coro<datagrams> bind_unix_datagrams(std::string path, datagram_options options) {
    return detail::bind_unix_name(std::move(path), detail::datagram_settings(options));
}
coro<datagrams> connect_unix_datagrams(std::string path, datagram_options options) {
    return detail::connect_unix_name(std::move(path), detail::datagram_settings(options));
}

}  // namespace aio::inline v0
