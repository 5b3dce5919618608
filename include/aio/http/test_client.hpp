#pragma once
// Calls the handler of a server as a client would, in memory, without a socket: for tests.
//
//     aio::http::router app;
//     app.get("/users/{id}", [](aio::http::request request) { return aio::http::response(200, request.param("id")); });
//
//     aio::http::test_client c(app);
//     aio::http::response r = co_await c.get("/users/7");
//     r.raise_for_status();
//     use(r.text(), r.headers());
//     aio::http::websocket ws = co_await c.websocket("/chat");
//
// It has the words of http::session. What a server adds to a message is added here, too, as far as handlers see it:
// Host, Content-Length, no body to HEAD. Limits and deadlines of a server do not apply.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/http/client.hpp>
#include <aio/http/message.hpp>
#include <aio/http/server.hpp>
#include <aio/http/websocket.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {
struct test_client_state;
}

namespace aio::inline v0::http {

/// The options of a test_client.
struct test_client_options {
    bool throw_errors = false;  // an exception of a handler comes out of the request; else it is told and answered 500
    bool cookies = false;       // keeps the cookies that are set, and sends them all, whatever their path
    std::string_view base_url = "http://testserver";  // of URLs without a host
    std::string_view peer = "127.0.0.1:50000";        // request.peer()
};

/// A handle: copies share handler and cookies. Requests may run at the same time, and may outlive the client.
class test_client {
public:
    /// handler is what http::start_server() takes: a router, or a function of a request.
    template<class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, test_client>)
    explicit test_client(F&& handler, test_client_options options = {})
        : test_client(detail::make_http_handler(std::forward<F>(handler), "http::test_client"), options) {}
    test_client(detail::http_handler handler, test_client_options options);

    /// Sends a request when awaited, and gives the response once its body is there: the pieces of a stream and the
    /// content of a file are in text(). url is "/path?query", or has a host; redirects on this host are followed. Of
    /// the options, timeout, headers, auth, params, follow_redirects, max_redirects and max_body_size count. Throws
    /// std::invalid_argument for a malformed URL, timeout_error, http::error for a body that its handler does not bring
    /// to its end, is beyond max_body_size or has another length than its Content-Length. A cancel cancels the handler.
    coro<response> get(std::string url, request_options options = {});
    /// Sends a HEAD request; the response has no body. Otherwise it works like get().
    coro<response> head(std::string url, request_options options = {});
    /// Sends a POST request with this body. A form and a multipart bring their Content-Type. Otherwise it works like
    /// get().
    coro<response> post(std::string url, std::string body, request_options options = {});
    coro<response> post(std::string url, const http::form& body, request_options options = {});
    coro<response> post(std::string url, const http::multipart& body, request_options options = {});
    /// Sends a PUT request with this body. Otherwise it works like get().
    coro<response> put(std::string url, std::string body, request_options options = {});
    /// Sends a PATCH request with this body. Otherwise it works like get().
    coro<response> patch(std::string url, std::string body, request_options options = {});
    /// Sends a DELETE request. Otherwise it works like get().
    coro<response> del(std::string url, request_options options = {});
    /// Sends a request of any method. Otherwise it works like get().
    coro<response> request(std::string method, std::string url, std::string body = {}, request_options options = {});
    /// Sends a request whose body comes piece by piece: an unbuffered handler reads the pieces as they are, any other
    /// one gets them all at once. The request owns the generator, and throws what it throws. Otherwise it works like
    /// get().
    coro<response> upload(
        std::string method, std::string url, async_generator<std::string> body, request_options options = {});
    /// Gives the body of a GET piece by piece, as the handler makes it: for a stream that does not end. next() throws
    /// status_error for a status of 400 or more, and the errors of get().
    async_generator<std::string> stream(std::string url, request_options options = {});
    /// Opens a WebSocket to a handler that gives upgrade_websocket(), and gives the client's end of it. url is "/path",
    /// or has a host. The handler runs in a task of its own, which is cancelled when the last copy of this client goes;
    /// await close() before, and it has ended in its own way. Of the options, those of session::websocket() count.
    /// Throws status_error for any other answer than a 101, std::invalid_argument for a malformed URL or a header that
    /// is the library's own, timeout_error after open_timeout. A cancel cancels the handler.
    coro<http::websocket> websocket(std::string url, websocket_options options = {});

private:
    std::shared_ptr<detail::test_client_state> state_;
};

}  // namespace aio::inline v0::http
