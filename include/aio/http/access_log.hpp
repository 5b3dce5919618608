#pragma once
// Tells what a server has answered: one record for each request, when its response was sent, or was cut.
//
//     aio::http::access_log log([](const aio::http::access_record& r) {
//         std::printf("%.*s %.*s %d %llu\n", int(r.method.size()), r.method.data(), int(r.target.size()),
//             r.target.data(), r.status, static_cast<unsigned long long>(r.bytes_sent));
//     });
//     aio::http::router app;
//     co_await aio::http::serve(app, "127.0.0.1", 8080, {.log = &log});
//
// The function runs in the connection's task, so it must not block: one that writes to a file hands the record to a
// queue. A target may have any printable bytes: a program that writes lines quotes what it does not trust.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/function.hpp>
#include <aio/http/message.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0::http {

/// The views are valid during the call. method and target are empty for a request that could not be read (400, 431).
///
/// A request is cut, and complete is false, if the client goes away, is too slow, or drain() or close() ends the wait
/// for its handler. A server learns only by writing that a client has gone, and the first write to one that has closed
/// its connection succeeds: such a request has the status of its response, and may be complete. With
/// cancel_on_disconnect the server also looks while the handler runs, and HTTP/2 tells it of each cancel.
struct access_record {
    std::string_view method;            // "GET"
    std::string_view target;            // "/path?query", as it was sent
    std::string_view peer;              // the client's address
    http::version version;              // of the request
    int status;                         // of the response; 499: the request was cut before anything of it was sent
    bool complete;                      // all of the response was sent
    std::uint64_t bytes_received;       // by the connection, since the response before
    std::uint64_t bytes_sent;           // heads, chunks' sizes and interim responses included
    std::chrono::nanoseconds duration;  // from the end of the request's header to the end of its response
};

/// A handle; copies share the function. The server that it is given to keeps the function.
class access_log {
public:
    /// fn is a plain function that takes an access_record. What it throws goes to the loop's exception handler.
    template<class F>
        requires(std::is_invocable_v<std::decay_t<F>&, const access_record&>)
    explicit access_log(F&& fn) {
        detail::require_function(fn, "http::access_log()");
        fn_ = std::make_shared<detail::function<void(const access_record&)>>(std::forward<F>(fn));
    }

    const std::shared_ptr<detail::function<void(const access_record&)>>& detail_function() const noexcept {
        return fn_;
    }

private:
    std::shared_ptr<detail::function<void(const access_record&)>> fn_;
};

}  // namespace aio::inline v0::http
