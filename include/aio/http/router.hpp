#pragma once
// The routes of an HTTP server: which handler answers which path and method, and what stands around the handlers.
//
//     aio::coro<aio::http::response> show(aio::http::request request) {
//         co_return aio::http::response(200, "user " + request.param("id") + "\n");
//     }
//     aio::coro<aio::http::response> timed(aio::http::request request, aio::http::next next) {
//         aio::http::response r = co_await next(std::move(request));
//         r.headers().set("Server-Timing", "app");
//         co_return r;
//     }
//
//     aio::http::router app;
//     app.get("/users/{id}", show);
//     app.get("/health", [] { return aio::http::response(200, "well\n"); });
//     app.use(timed);
//     co_await aio::http::serve(app, "127.0.0.1", 8080);
//
// A pattern begins with a slash and consists of segments: a text, as it stands decoded ("/a b"), or a parameter, which
// takes one whole segment and is never empty. A last segment "{path...}" takes all that is left, slashes included, and
// may be empty. Where several patterns fit, text wins over a parameter, and a parameter over the rest of the path,
// segment by segment from the left. A path is compared as it is: "/users/" is not "/users", and ".." has no meaning.
//
// HEAD is answered by the handler of GET, unless it has one of its own. A path that has no handler is answered 404; one
// that has handlers, but not of this method, 405 with Allow, and OPTIONS with Allow.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/http/message.hpp>
#include <aio/http/server.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {
struct http_chain;
struct http_router_state;
}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// What a middleware is given to go on with: the next middleware, and in the end the handler. A copyable function that
/// owns what it needs; it may be called again, with a copy of the request, or not at all.
class next {
public:
    next(std::shared_ptr<detail::http_chain> chain, std::size_t at) noexcept : chain_(std::move(chain)), at_(at) {}
    /// Calls what follows, and gives its response. Its exceptions come through.
    coro<response> operator()(http::request request) const;

private:
    std::shared_ptr<detail::http_chain> chain_;
    std::size_t at_;
};

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {

using http_middleware = function<coro<http::response>(http::request, http::next)>;

// The request lives here: a middleware may take it by reference.
template<class M>
coro<http::response> call_http_middleware(M& middleware, http::request request, http::next next) {
    using gives = final_result_t<M&, http::request, http::next>;
    static_assert(std::is_convertible_v<gives, http::response>, "a middleware gives an http::response");
    try {
        if constexpr (awaitable<std::invoke_result_t<M&, http::request, http::next>>) {
            co_return co_await detail::invoke(middleware, std::move(request), std::move(next));
        } else {
            co_return detail::invoke(middleware, std::move(request), std::move(next));
        }
    } catch (const http::refusal& refusal) { co_return http_response_of(refusal); }
}

template<class M>
struct http_middleware_of {
    M fn;
    AIO_DETAIL_WRAPPER coro<http::response> operator()(http::request request, http::next next) {
        return call_http_middleware(fn, std::move(request), std::move(next));
    }
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// A handle: copies share their routes. So a server that was given a router, or a std::ref of it, keeps the routes and
/// their handlers as long as it needs them, and the router may go. Routes may be added while a server runs, by the
/// loop's own thread; before it starts if it has several threads.
class router {
public:
    router();
    router(const router&) = default;
    router& operator=(const router&) = default;
    ~router() = default;

    /// Adds a handler for a method and a pattern; "*" is every method that has no handler of its own. handler is a
    /// plain or async function of an http::request, or of nothing, or what http::unbuffered() gives; it is kept, and
    /// called for many requests at once. Throws std::invalid_argument for a malformed pattern, for a method that is no
    /// token, and for a route that is there already, whatever its parameters are called.
    template<class F>
    router& route(std::string method, std::string pattern, F&& handler) {
        add(std::move(method), std::move(pattern), detail::make_http_handler(std::forward<F>(handler), "http::router"));
        return *this;
    }
    /// Adds a handler for the method GET (and for HEAD), as route() does.
    template<class F>
    router& get(std::string pattern, F&& handler) {
        return route("GET", std::move(pattern), std::forward<F>(handler));
    }
    /// Adds a handler for the method POST, as route() does.
    template<class F>
    router& post(std::string pattern, F&& handler) {
        return route("POST", std::move(pattern), std::forward<F>(handler));
    }
    /// Adds a handler for the method PUT, as route() does.
    template<class F>
    router& put(std::string pattern, F&& handler) {
        return route("PUT", std::move(pattern), std::forward<F>(handler));
    }
    /// Adds a handler for the method DELETE, as route() does.
    template<class F>
    router& del(std::string pattern, F&& handler) {
        return route("DELETE", std::move(pattern), std::forward<F>(handler));
    }
    /// Adds a handler for the method PATCH, as route() does.
    template<class F>
    router& patch(std::string pattern, F&& handler) {
        return route("PATCH", std::move(pattern), std::forward<F>(handler));
    }

    /// Puts the routes of another router below a prefix: its "/users/{id}" becomes "/api/users/{id}", its "" "/api".
    /// The prefix may have parameters. The other router answers all that begins with the prefix and has no more
    /// specific route here, its 404s included. Routes that are added to it later count, too. Throws
    /// std::invalid_argument for a prefix that is malformed or ends with a slash, for a second router there, and for a
    /// router inside itself.
    router& mount(const std::string& prefix, const router& other);

    /// Adds a middleware: a plain or async function (http::request, http::next) that gives an http::response, its own
    /// or that of next(request). Middlewares stand around all handlers, those of mounted routers and the answers 404
    /// and 405 included; the first that was added is the outermost. Those of a mounted router stand inside, around what
    /// is below its prefix. request.param() gives the parameters already. A refusal that a handler or an inner
    /// middleware throws comes out of next() as its response; other errors are thrown by it.
    template<class M>
    router& use(M&& middleware) {
        using stored = std::decay_t<M>;
        static_assert(std::is_invocable_v<stored&, http::request, http::next>,
            "a middleware is a function of an http::request and an http::next");
        detail::require_function<stored>(middleware, "http::router::use()");
        add_middleware(detail::http_middleware_of<stored>{std::forward<M>(middleware)});
        return *this;
    }

    /// Answers GET and HEAD below a prefix with the files of a folder. Only regular files inside the folder are sent:
    /// no path with "..", an encoded slash or a NUL, no link that leads out of it (an absolute one does), and no name
    /// with a dot in front unless files_options::dot_files says so; all that is 404. "/static/a/" is the index of
    /// folder a, and "/static/a" leads there. Throws std::system_error if folder is none. Source: openat2(2),
    /// RESOLVE_BENEATH; where the kernel has no openat2, all links are refused.
    router& files(std::string prefix, std::string folder, files_options options = {});

    /// Answers one request.
    coro<response> operator()(http::request request) const;
    /// For http::serve() and the like.
    detail::http_handler to_http_handler() const;

private:
    void add(std::string method, std::string pattern, detail::http_handler handler);
    void add_middleware(detail::http_middleware middleware);

    std::shared_ptr<detail::http_router_state> state_;
};

}  // namespace aio::inline v0::http
