#pragma once
// Sockets that a service manager has opened for this process before it started it: systemd's socket activation. The
// service then listens from the first moment on, may run without the right to open a low port, and loses no connection
// while it is restarted. Source: sd_listen_fds_with_names(3).
//
//     for (aio::inherited_socket& s : aio::inherited_sockets()) {
//         if (s.name == "web") {
//             aio::server v = co_await aio::start_server(serve_client, std::move(s.socket));
//             co_await aio::with(v, [&] { return v.serve_forever(); });
//         } else if (s.name == "dns") {
//             aio::datagrams d = co_await aio::bind_datagrams(std::move(s.socket));
//             co_await d.aclose();
//         }
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/descriptor.hpp>

#include <string>
#include <vector>

namespace aio::inline v0 {

/// name: the one in the unit's FileDescriptorName=; "unknown" if the manager gives none.
struct inherited_socket {
    descriptor socket;  // It is yours, and closed with this object.
    std::string name;
};

/// Gives the descriptors that LISTEN_FDS announces, if LISTEN_PID says that they are for this process; otherwise none.
/// They are close-on-exec from then on, and the variables are removed, so a second call gives none, and neither
/// children nor libraries take them for theirs. Not while other threads use the environment. Throws std::system_error:
/// EINVAL for variables that make no sense, EBADF for a descriptor that is not open.
std::vector<inherited_socket> inherited_sockets();

}  // namespace aio::inline v0
