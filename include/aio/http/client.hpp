#pragma once
// The HTTP client: HTTP/1.1 and 2, TLS with verified certificates, redirects, compression, connections kept and shared.
//
//     aio::http::session s;
//     aio::http::response r = co_await s.get("https://example.org/", {.timeout = 5s});
//     r.raise_for_status();
//     use(r.headers()["content-type"], r.text());
//     co_await s.post(url, body, {.headers = aio::http::headers("Content-Type", "application/json")});
//
// Use one session for a program, or for a part of it: the session keeps the connections. It runs on libcurl's multi
// interface inside the loop, without a thread of its own (libcurl resolves names in one). Proxies are taken from the
// environment as curl does, but never for this machine itself.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/http/message.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace aio::http {

/// The options of one request. What they refer to is copied before the call returns.
struct request_options {
    delay timeout = std::nullopt;  // for the whole exchange, redirects and body included; std::nullopt: the session's
    headers_ref headers = {};      // sent beside, or instead of, those that are sent anyway
    bool follow_redirects =
        true;  // 301, 302, 303, 307 and 308, within http and https; credentials do not go to another origin
    std::size_t max_redirects = 20;
    // bytes after decompression; 0: no limit; std::nullopt: 1 GiB, and for stream(), which keeps little, no limit
    std::optional<std::size_t> max_body_size = std::nullopt;
};

struct session_options {
    delay timeout = std::chrono::minutes(5);           // of requests that have none of their own; std::nullopt: none
    delay connect_timeout = std::chrono::seconds(30);  // names, connection and TLS together
    std::size_t max_connections = 100;                 // further requests wait for one; 0: no limit
    std::size_t max_connections_per_host = 0;          // 0: no limit of its own
    std::string_view user_agent = "aiocxx";
    std::string_view ca_file = {};  // certificates to trust instead of the system's
};

}  // namespace aio::http

namespace aio::detail {

class curl_multi;
struct curl_transfer;

/// A request and its response, as an operation that a task awaits.
class [[nodiscard("co_await it")]] http_exchange final : public irrevocable<http_exchange> {
public:
    explicit http_exchange(std::unique_ptr<curl_transfer> transfer) noexcept;
    http_exchange(http_exchange&& other) noexcept;
    ~http_exchange();
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    http::response finish();
    void describe(std::string& out) const override;

private:
    std::unique_ptr<curl_transfer> transfer_;
};

}  // namespace aio::detail

namespace aio::http {

/// A session is movable, and belongs to one loop at a time. If it is destroyed while requests run, they go on: they
/// share what they need, and the connections are closed after the last one. A session is a manager: `with(session(),
/// body)` and `enter` call aclose().
class session {
public:
    explicit session(session_options options = {});
    session(session&&) noexcept;
    session& operator=(session&&) noexcept;
    ~session();

    /// Sends a request when awaited, and gives the response, whatever its status, once its body is there. Irrevocable:
    /// a cancel while the request runs closes its connection at once (with HTTP/2, its stream); a response that has
    /// arrived is given. Each error names method and URL: std::invalid_argument for a malformed URL or one that is
    /// neither http nor https, and for headers that say how the message ends (the library does); std::system_error for
    /// a host that cannot be found or reached and a connection that was lost; timeout_error, which says what it was
    /// waiting for; http::error for a peer that does not keep to the protocol, an answer that is cut short, an
    /// untrusted certificate, too many redirects. The session may be destroyed before the request is awaited.
    ///
    /// A kept connection may turn out to be closed. Methods that may be repeated (RFC 9110, 9.2.2: GET, HEAD, PUT,
    /// DELETE, OPTIONS, TRACE) are then sent again over a new connection; any other method throws std::system_error
    /// (ECONNRESET), because the server may have done what was asked. A kept connection that has come to its end before
    /// the request is sent, or on which the server has said something unasked (408, a second answer), is closed, and
    /// the request goes over another one. `Connection: close` in the headers asks for a connection that is not kept.
    ///
    /// The library asks for gzip and deflate, and decodes them. If the headers have an Accept-Encoding, other encodings
    /// than these are given as they came. A body that says neither its length nor that it comes in chunks ends with its
    /// connection: if that was cut without a reset, libcurl cannot tell, not even over TLS.
    ///
    /// A URL is ASCII except in its path and query, where characters that no URL may have are encoded. A host name such
    /// as "bücher.example" is given in its ASCII form, "xn--bcher-kva.example".
    detail::http_exchange get(std::string url, request_options options = {});
    detail::http_exchange head(std::string url, request_options options = {});
    detail::http_exchange post(std::string url, std::string body, request_options options = {});
    detail::http_exchange put(std::string url, std::string body, request_options options = {});
    detail::http_exchange del(std::string url, request_options options = {});
    detail::http_exchange request(
        std::string method, std::string url, std::string body = {}, request_options options = {});

    /// Gives the body of a GET, piece by piece as it comes, none of them empty: for a body that is large or does not
    /// end. At most 256 KiB and what is on its way wait for the consumer; then the server has to wait. options.timeout
    /// is for each piece. Throws the errors of get(), and status_error for a status of 400 or more; of a body that is
    /// cut short, the pieces come before the error. Dropping or closing the generator closes the connection, unless all
    /// has been read. A cancel ends the generator.
    async_generator<std::string> stream(std::string url, request_options options = {});

    /// Ends running requests with std::errc::operation_canceled, and closes all connections. Later requests throw
    /// std::logic_error. A second call does nothing.
    coro<> aclose();
    /// How many requests are under way.
    std::size_t running() const noexcept;

private:
    std::shared_ptr<detail::curl_multi> multi_;
};

}  // namespace aio::http
