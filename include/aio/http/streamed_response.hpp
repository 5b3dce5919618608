#pragma once
// A response whose head is there, and whose body is read while it comes: session::open() gives it.
//
//     auto r = co_await s.open("GET", url);
//     r.raise_for_status();
//     while (auto piece = co_await r.next()) { use(*piece); }
//     co_await r.aclose();                 // or co_await aio::with(std::move(r), body)
//
// Use it for bodies that are large or do not end, where stream() is not enough: for another method than GET, or if
// status and headers are wanted. At most 256 KiB and what is on its way wait for the reader; then the server has to
// wait.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/http/message.hpp>
#include <aio/task.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace aio::inline v0::http {
class streamed_response;
}

namespace aio::inline v0::detail {

struct curl_transfer;
struct curl_transfer_release {
    void operator()(curl_transfer* t) const noexcept;
};
using curl_transfer_ptr = std::unique_ptr<curl_transfer, curl_transfer_release>;

/// A request until the head of its answer is there, as an operation that a task awaits.
class [[nodiscard("co_await it")]] http_opening final : public irrevocable<http_opening> {
public:
    http_opening(curl_transfer_ptr transfer, std::optional<async_generator<std::string>> body) noexcept;
    http_opening(http_opening&& other) noexcept;
    ~http_opening();
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    http::streamed_response finish();
    void describe(std::string& out) const override;

private:
    curl_transfer_ptr transfer_;
    std::optional<async_generator<std::string>> body_;
    aio::task<> feeder_;
};

/// Waits for a piece of a streamed body. An irrevocable one: a piece that has come is given in spite of a cancel.
class [[nodiscard("co_await it")]] http_piece final : public irrevocable<http_piece> {
public:
    explicit http_piece(curl_transfer* t, bool refuses_errors = false) noexcept
        : transfer_(t), refuses_errors_(refuses_errors) {}
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    std::optional<std::string> finish();
    void describe(std::string& out) const override;

private:
    curl_transfer* transfer_;  // null: there is no body any more
    bool refuses_errors_;      // a status of 400 or more is an error
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// Movable, but not while next() or read() is awaited. If it is dropped, its connection is closed, unless all has been
/// read. It is a manager: `with` and `enter` call aclose().
class streamed_response {
public:
    streamed_response(streamed_response&&) noexcept;
    streamed_response& operator=(streamed_response&&) noexcept;
    ~streamed_response();

    int status() const noexcept { return head_.status(); }                     // The status code.
    bool ok() const noexcept { return head_.ok(); }                            // True for a status below 400.
    const http::headers& headers() const noexcept { return head_.headers(); }  // The header fields.
    /// The URL it came from, after redirects, without user and password.
    const std::string& url() const noexcept { return head_.url(); }
    /// The version of the protocol that the server answered with.
    http::version version() const noexcept { return head_.version(); }
    /// The fields that came after a body in chunks: empty before the body's end.
    const http::headers& trailers() const noexcept;
    /// Throws status_error if the status is 400 or more.
    void raise_for_status() const { head_.raise_for_status(); }

    /// Gives the next piece of the body, none of them empty, or nothing at its end. The request's timeout is for each
    /// piece. Irrevocable: a piece that has come is given; a cancel leaves the response as it is. Throws the errors of
    /// session::get(); of a body that is cut short, the pieces come before the error. Two tasks: std::logic_error.
    detail::http_piece next();
    /// Gives all that is left of the body. Throws http::error beyond 1 GiB, and the errors of next(). A cancel loses
    /// what has been read so far.
    coro<std::string> read();
    /// Closes the connection, unless all has been read. Completes at once, or when the request's generator has been
    /// closed, if it has one. A cancel ends that wait alone. A second call does nothing.
    coro<> aclose();

private:
    friend class detail::http_opening;
    streamed_response(http::response head, detail::curl_transfer_ptr transfer, task<> feeder) noexcept;
    void drop() noexcept;
    http::response head_;  // without a body
    detail::curl_transfer_ptr transfer_;
    task<> feeder_;  // reads the generator that gives the request's body
};

}  // namespace aio::inline v0::http
