#pragma once
// Repeats a request that has failed for a while: the server is busy or restarts, the connection is lost.
//
//     aio::http::response r = co_await aio::http::retry({.attempts = 5}, [&] { return s.get(url); });
//     r.raise_for_status();
//
// The wait before the second attempt is `first`, and each further one is twice as long, up to `most`; a part of it is
// random, so that clients that have failed together do not come back together. A Retry-After of the answer (seconds or
// a date) makes the wait longer, up to `most`.
//
// retry() repeats after an answer of 408, 425, 429, 500, 502, 503 or 504, also if fn makes a status_error of it. It
// repeats after a connection that could not be made or was lost, also in the middle of the answer, whose body is then
// cut short. It repeats after connect_timeout, tls_timeout, first_byte_timeout and read_timeout of the request.
//
// It does not repeat after other answers and errors, after a cancel, and after request_options::timeout, which limits
// the whole request and has passed already. It repeats a request of a session only if its method may be repeated (GET,
// HEAD, PUT, DELETE, OPTIONS, TRACE), if nothing of it was sent, or with any_method. Answers and errors that come from
// elsewhere count as those of a method that may be repeated.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/task/await.hpp>
#include <aio/http/message.hpp>
#include <aio/sleep.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace aio::inline v0::http {

/// When retry() sends a request again, and how long it waits before that. The wait doubles from attempt to attempt,
/// from first up to most, and is shortened by chance. A Retry-After of the server makes it longer, up to most.
struct retry_policy {
    std::size_t attempts = 4;                      // with the first one; 0 counts as 1
    delay first = std::chrono::milliseconds(200);  // before the second attempt
    delay most = std::chrono::seconds(30);         // the longest wait
    double jitter = 0.5;      // 0 to 1: the part of a wait that is random. It makes a wait shorter, never longer
    bool any_method = false;  // POST and PATCH, too: the server may then do twice what is asked once
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

/// What retry() has seen, and what the requests of its task tell it of their failures.
class http_retries {
public:
    /// Throws std::invalid_argument for a policy that makes no sense.
    explicit http_retries(const http::retry_policy& policy);
    ~http_retries();
    http_retries(const http_retries&) = delete;
    http_retries& operator=(const http_retries&) = delete;
    void begin() noexcept;
    /// How long to wait before the next attempt; std::nullopt: there is none.
    delay after(const http::response& r);
    delay after(const std::exception_ptr& error);

private:
    struct state;
    std::unique_ptr<state> state_;
};

template<class F>
coro<http::response> retry_all(http::retry_policy policy, F fn) {
    http_retries retries(policy);
    for (;;) {
        std::optional<http::response> answer;
        std::exception_ptr error;
        retries.begin();
        try {
            answer.emplace(co_await fn());
        } catch (...) { error = std::current_exception(); }
        const delay wait = answer ? retries.after(*answer) : retries.after(error);
        if (!wait.has_value()) {
            if (error) std::rethrow_exception(error);
            co_return std::move(*answer);
        }
        co_await sleep(wait);
    }
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Calls fn, which gives an awaitable response, until that is good, may not be repeated, or policy.attempts are used
/// up: then it gives the last response, or throws the last error. fn is moved in. A cancel ends the attempt or the
/// wait. Throws std::invalid_argument for a jitter beyond 0 to 1, or a wait of std::nullopt. Source: RFC 9110, 10.2.3.
template<class F>
AIO_DETAIL_WRAPPER coro<response> retry(retry_policy policy, F fn) {
    static_assert(std::is_convertible_v<detail::awaited_t<std::invoke_result_t<F&>>, response>,
        "http::retry(policy, fn): fn takes nothing, and gives what an http::response is awaited from: a request of a "
        "session, or a coro<http::response>");
    return detail::retry_all(policy, std::move(fn));
}

}  // namespace aio::inline v0::http
