#pragma once
// The file of a unix socket outlives the process that has made it. Servers and datagram sockets bind through
// bind_unix(), which replaces a file to which no process is bound any more, and remove their file when they close it.

#include <aio/address.hpp>
#include <aio/coro.hpp>
#include <aio/detail/task/function.hpp>

#include <sys/types.h>

namespace aio::inline v0::detail {

/// The file of a bound unix socket, as it was made: remove() removes that file and no other one (rule 180).
class unix_file {
public:
    /// Notes the file at the path of the address. Does nothing for an abstract name or an IP address.
    void note(const address& bound) noexcept;
    void remove(const address& bound) noexcept;
    /// Leaves the file to somebody else.
    void forget() noexcept { inode_ = 0; }

private:
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

/// Calls bind, which gives 0 or an errno. If that is EADDRINUSE because of a file to which no process is bound, removes
/// the file and calls bind again. Gives 0 or the errno. The arguments must live until the end.
coro<int> bind_unix(const address& where, function<int()>& bind);

}  // namespace aio::inline v0::detail
