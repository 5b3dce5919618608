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
#include <aio/http/authorization.hpp>
#include <aio/http/message.hpp>
#include <aio/http/params.hpp>
#include <aio/http/streamed_response.hpp>
#include <aio/http/websocket.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0::http {

class form;
class multipart;

/// The options of one request. What they refer to is copied before the call returns. A time limit that is std::nullopt
/// is the session's. Headers stand in two pairs of braces: {.headers = {{"Accept", "text/html"}}}.
struct request_options {
    // for the whole request: the wait for a free connection, redirects and both bodies are included
    delay timeout = std::nullopt;
    headers_ref headers = {};  // sent beside, or instead of, those that are sent anyway
    bool follow_redirects =
        true;  // 301, 302, 303, 307 and 308, within http and https; credentials do not go to another origin
    std::size_t max_redirects = 20;  // one more is an http::error
    // bytes after decompression; 0: no limit; std::nullopt: 1 GiB, and for what is streamed, no limit
    std::optional<std::size_t> max_body_size = std::nullopt;
    std::string_view auth = {};               // the Authorization: http::basic() or http::bearer()
    params_ref params = {};                   // go into the URL's query
    bool decompress = true;                   // false: no encoding is asked for, and the body is given as it came
    delay connect_timeout = std::nullopt;     // name, connection and TLS together
    delay tls_timeout = std::nullopt;         // TLS, once there is a connection
    delay first_byte_timeout = std::nullopt;  // until the answer begins, while nothing more of the request goes out
    delay read_timeout = std::nullopt;        // until the answer goes on
    std::optional<version> http_version = std::nullopt;  // see session_options
};

/// The options of a session.
struct session_options {
    delay timeout = std::chrono::minutes(5);           // of requests that have none of their own; std::nullopt: none
    delay connect_timeout = std::chrono::seconds(30);  // names, connection and TLS together
    std::size_t max_connections = 100;                 // further requests wait for one; 0: no limit
    std::size_t max_connections_per_host = 0;          // 0: no limit of its own
    std::string_view user_agent = "aiocxx";            // the User-Agent field; empty: none is sent
    std::string_view ca_file = {};                     // certificates to trust instead of the system's
    bool cookies = false;  // cookies are kept in memory, and sent where they belong (RFC 6265)
    // "http://user:password@host:3128", https, socks4, socks5 (names resolved here) or socks5h (there). It is used for
    // all hosts, also for this machine, but those of no_proxy.
    std::string_view proxy = {};
    std::string_view unix_socket = {};  // the path of a server's socket, which takes all requests; "@name": abstract
    // The newest version that is asked for. std::nullopt: HTTP/2 where TLS finds it, else 1.1. v2 asks for it without
    // TLS, too, which the server has to know, and lets all requests to a host share one connection.
    std::optional<version> http_version = std::nullopt;
    std::string_view no_proxy = {};            // "localhost,.example.org": hosts that are asked without the proxy
    bool trust_env = true;                     // http_proxy, https_proxy, no_proxy and the like, of the environment
    std::string_view client_certificate = {};  // the path of a chain in PEM, if servers ask for one
    std::string_view client_key = {};          // the path of its key in PEM; empty: it is in client_certificate
    bool verify = true;                        // false: servers may have any certificate. For tests alone
    std::string_view auth = {};                // of each request that has none: http::basic() or http::bearer()
    std::string_view base_url = {};            // stands before each URL that has no scheme; auth goes nowhere else
    headers_ref headers = {};                  // sent with each request that has no field of the same name
    delay tls_timeout = std::nullopt;          // these are as in request_options; std::nullopt: none
    delay first_byte_timeout = std::nullopt;   // see request_options
    delay read_timeout = std::nullopt;         // see request_options
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

class curl_multi;

/// A request and its response, as an operation that a task awaits.
class [[nodiscard("co_await it")]] http_exchange final : public irrevocable<http_exchange> {
public:
    explicit http_exchange(curl_transfer_ptr transfer) noexcept;
    http_exchange(http_exchange&& other) noexcept;
    ~http_exchange();
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    http::response finish();
    void describe(std::string& out) const override;

private:
    curl_transfer_ptr transfer_;
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// A session is movable, and belongs to one loop at a time. If it is destroyed while requests run, they go on: they
/// share what they need, and the connections are closed after the last one. A session is a manager: `with(session(),
/// body)` and `enter` call aclose().
class session {
public:
    /// Throws std::invalid_argument for a malformed option: a base_url without a scheme, a user_agent with a
    /// line break.
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
    /// Sends a HEAD request: the response has the headers that a GET would have, and no body. Completes, is cancelled
    /// and fails as get().
    detail::http_exchange head(std::string url, request_options options = {});
    /// Sends a POST request with this body; options.headers should say its Content-Type. Completes, is cancelled and
    /// fails as get(), except that it throws std::system_error (ECONNRESET) where get() would be sent again over a new
    /// connection.
    detail::http_exchange post(std::string url, std::string body, request_options options = {});
    /// Sends a PUT request with this body. Completes, is cancelled and fails as get().
    detail::http_exchange put(std::string url, std::string body, request_options options = {});
    /// Sends a DELETE request. Completes, is cancelled and fails as get().
    detail::http_exchange del(std::string url, request_options options = {});
    /// Sends a request of any method but CONNECT. Completes, is cancelled and fails as get(), and throws
    /// std::invalid_argument for a method that is no token of HTTP.
    detail::http_exchange request(
        std::string method, std::string url, std::string body = {}, request_options options = {});

    /// Gives the body of a GET, piece by piece as it comes, none of them empty: for a body that is large or does not
    /// end. At most 256 KiB and what is on its way wait for the consumer; then the server has to wait. options.timeout
    /// is for each piece. Throws the errors of get(), and status_error for a status of 400 or more; of a body that is
    /// cut short, the pieces come before the error. Dropping or closing the generator closes the connection, unless all
    /// has been read. A cancel ends the generator.
    async_generator<std::string> stream(std::string url, request_options options = {});

    /// Sends a form or a multipart (aio/http/forms.hpp) with its Content-Type. It is copied before the call returns. A
    /// multipart with files of add_path() is sent as by upload(), and the files are read meanwhile.
    template<class Form>
        requires std::is_same_v<Form, form>
    detail::http_exchange post(std::string url, const Form& fields, request_options options = {}) {
        return send_form("POST", std::move(url), fields, options);
    }
    template<class Form>
        requires std::is_same_v<Form, form>
    detail::http_exchange put(std::string url, const Form& fields, request_options options = {}) {
        return send_form("PUT", std::move(url), fields, options);
    }
    template<class Multipart>
        requires std::is_same_v<Multipart, multipart>
    AIO_DETAIL_WRAPPER coro<response> post(std::string url, const Multipart& parts, request_options options = {}) {
        return send_multipart("POST", std::move(url), parts, options);
    }
    template<class Multipart>
        requires std::is_same_v<Multipart, multipart>
    AIO_DETAIL_WRAPPER coro<response> put(std::string url, const Multipart& parts, request_options options = {}) {
        return send_multipart("PUT", std::move(url), parts, options);
    }

    /// Sends a request whose body comes piece by piece, and gives the response, as request() does. The body goes in
    /// chunks; with a Content-Length among the headers it has to have that length. The generator is asked for a piece
    /// when the one before has been sent. What it throws ends the request, and is thrown here. It is closed when the
    /// response is there, which may be before all is sent. A redirect that asks for the body once more (307, 308) is an
    /// http::error if some of it has gone; a header Expect: 100-continue lets the server answer before that. The
    /// request is sent again over a new connection only if nothing of the body has gone. In all else it completes, is
    /// cancelled and fails as get().
    coro<response> upload(
        std::string method, std::string url, async_generator<std::string> body, request_options options = {});

    /// Sends a request, and gives the response as soon as its head is there, whatever its status; the body is read from
    /// it while it comes. options.timeout is for the head, and then for each piece. With a generator as the request's
    /// body both bodies may be under way at once; the response owns the generator, as upload() does. Irrevocable.
    /// Errors: those of get().
    detail::http_opening open(std::string method, std::string url, request_options options = {});
    detail::http_opening open(std::string method, std::string url, std::string body, request_options options = {});
    detail::http_opening open(
        std::string method, std::string url, async_generator<std::string> body, request_options options = {});

    /// Opens a WebSocket to a ws://, wss://, http:// or https:// URL, over a connection of its own, which has to be
    /// closed before the session's loop ends, and which the session's aclose() does not close. Certificates, headers,
    /// auth, base_url and unix_socket of the session's options count, cookies and the environment's proxies do not.
    /// Redirects are not followed. Throws std::invalid_argument as get(), for subprotocols that are no tokens, for
    /// headers that belong to the handshake, and if the session has a proxy; when awaited, std::system_error and
    /// tls_error of the connection, timeout_error after options.open_timeout, status_error for an answer other than
    /// 101, http::error for a wrong one. A cancel closes the connection.
    coro<http::websocket> websocket(std::string url, websocket_options options = {});

    /// Forgets the cookies that servers have set.
    void clear_cookies() noexcept;

    /// Ends running requests with std::errc::operation_canceled, and closes all connections. Later requests throw
    /// std::logic_error. Completes at once. A second call does nothing.
    coro<> aclose();
    /// How many requests are under way.
    std::size_t running() const noexcept;

private:
    detail::http_exchange send_form(
        std::string method, std::string url, const form& fields, const request_options& options);
    AIO_DETAIL_WRAPPER coro<response> send_multipart(
        std::string method, std::string url, const multipart& parts, const request_options& options);
    std::shared_ptr<detail::curl_multi> multi_;
};

}  // namespace aio::inline v0::http
