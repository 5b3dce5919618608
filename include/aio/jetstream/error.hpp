#pragma once
// The errors of aio::jetstream.
//
//     try {
//         co_await js.request("prices.get", "tea", {.timeout = 1s});
//     } catch (const aio::jetstream::error& e) {
//         std::puts(e.what());      // "jetstream: a request to prices.get: nobody answers there"
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>

#include <stdexcept>
#include <string>

namespace aio::inline v0::jetstream {

/// A server has refused something, or all servers have. what() says what was asked, of whom, and why not; it holds no
/// password and no token. A connection that cannot be made is a std::system_error instead, and a limit that passes is
/// a timeout_error.
class AIO_API error : public std::runtime_error {
public:
    /// What() is "jetstream: " and the message.
    explicit error(const std::string& message, int status = 0, int code = 0)
        : std::runtime_error("jetstream: " + message), status_(status), code_(code) {}
    /// The status, as HTTP's: 400, 404, 503 (nobody answers), 403 (not permitted). 0 if the error is none of a
    /// server's.
    int status() const noexcept { return status_; }
    /// The server's own number for the error, "err_code" in its JSON; 0 if it has none.
    int code() const noexcept { return code_; }

private:
    int status_;
    int code_;
};

/// Somebody else has written to the key of a bucket: the value is not stored. Read it again, and try again.
class AIO_API wrong_revision : public error {
public:
    using error::error;  // As those of jetstream::error.
};

/// The lease of a lease_lock ran out, or somebody else has taken the lock: what follows is no longer protected.
class AIO_API lease_lost : public error {
public:
    using error::error;  // As those of jetstream::error.
};

}  // namespace aio::inline v0::jetstream
