#pragma once
// Requests as a server's handler gets them, responses as the handler makes them and as a client gets them, and the
// errors of both.
//
//     aio::coro<aio::http::response> page(aio::http::request request) {
//         if (request.path() != "/hello") co_return aio::http::response(404, "no such page\n");
//         std::string name = request.query("name").value_or("you");
//         auto type = aio::http::headers("Content-Type", "text/plain");
//         co_return aio::http::response(200, "hello, " + name + "\n", type);
//     }
//
// Requests and responses are values: they own all their text.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/detail/base/config.hpp>
#include <aio/http/cookies.hpp>
#include <aio/http/files.hpp>
#include <aio/http/forms.hpp>
#include <aio/http/headers.hpp>
#include <aio/http/values.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {
struct http_access;
class http_body_source;
struct http_route;
struct http_special_body;
struct include_aio_http_json_hpp;  // a compiler names this if the header is missing
/// r.json() and response::json() need #include <aio/http_json.hpp>, which defines this.
template<class Json>
struct http_json_text;
}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

/// The version of the protocol that a message came with.
enum class version : std::uint8_t { v1_0, v1_1, v2 };

/// The peer does not keep to HTTP, or goes beyond the library's limits: a body that is cut short, garbage, a
/// certificate that is not trusted, endless redirects. An error of the system is a std::system_error instead, and a
/// deadline a timeout_error.
class AIO_API error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Thrown by raise_for_status(), and by stream(), whose caller sees no status.
class AIO_API status_error : public error {
public:
    status_error(int status, std::string url);       // what() names the status and the URL.
    int status() const noexcept { return status_; }  // The status code: 400 or more.
    /// Where the response came from, without user and password.
    const std::string& url() const noexcept { return url_; }

private:
    int status_;
    std::string url_;
};

/// Thrown by a handler, or by what it calls, to end a request with another answer than a 500: this status and text, and
/// these headers. A middleware gets it as a response already. request::form() and the like throw it for what a client
/// has done wrong, so that the client gets its 400, 413 or 415 if nobody catches it.
///
///     if (!user) throw aio::http::refusal(404, "no such user");
class AIO_API refusal : public error {
public:
    /// Throws std::invalid_argument unless 400 <= status <= 599.
    explicit refusal(int status, std::string text = {}, http::headers fields = {});
    int status() const noexcept { return status_; }                     // The status of the response.
    const http::headers& headers() const noexcept { return headers_; }  // Further fields of the response.

private:
    int status_;
    http::headers headers_;
};

/// A response is a value, but for the body of stream(): its copies share it, and it is sent once.
class response {
public:
    response() = default;
    /// The response has the Content-Type that is among the fields, and none otherwise. Throws std::invalid_argument
    /// unless 200 <= status <= 599.
    explicit response(int status, std::string body = {}, http::headers fields = {});
    /// Of a server: the body is sent piece by piece as the generator gives it, and the generator is asked for the next
    /// piece only when the client takes them; empty pieces are skipped. The body goes in chunks (HTTP/1.1), in frames
    /// (HTTP/2) or until the connection's end (HTTP/1.0); with a Content-Length among the fields it has to have that
    /// length. If the generator throws, or the length is wrong, the connection is cut, so that the client sees that the
    /// body is not whole, and the loop's exception handler gets the error. The generator is closed when the client goes
    /// away. Throws as the constructor does.
    ///
    /// What the generator has put into `trailers` at its end goes out behind the body, as fields of trailers() do:
    ///
    ///     auto trailers = std::make_shared<aio::http::headers>();
    ///     co_return aio::http::response::stream(200, with_checksum(trailers), {}, trailers);
    static response stream(int status, async_generator<std::string> body, http::headers fields = {},
        std::shared_ptr<const http::headers> trailers = nullptr);
    /// Of a server: a JSON body with its Content-Type. The value is a nlohmann::json or what converts to one, such as
    /// {{"id", 7}, {"name", "Ann"}}; needs #include <aio/http_json.hpp>.
    template<class Json = detail::include_aio_http_json_hpp>
    static response json(const typename detail::http_json_text<Json>::value_type& value, int status = 200) {
        auto type = http::headers("Content-Type", "application/json");
        return response(status, detail::http_json_text<Json>::write(value), std::move(type));
    }

    /// Of a server: sends the client to another address, with 301, 302, 303, 307 or 308. url is absolute, or relative
    /// to this request; what no URL may have is encoded. Whoever takes url from a request has to check where it leads.
    /// Throws std::invalid_argument for another status, or for a control character in url.
    static response redirect(std::string_view url, int status = 302);
    /// Of a server: a file, or the part of it that the request asks for (206), or what the conditions of the request
    /// come to (304, 412, 416); 404 if there is no such file, or one that is not regular. The file is opened on a
    /// thread when this is awaited, in the calling thread when it is taken for a response without that. path is yours:
    /// links are followed, and nothing is checked. Throws std::system_error for other errors than a missing file.
    static detail::file_answer file(std::string path, const http::request& request, file_options options = {});
    /// Of a server: adds a Set-Cookie. Throws std::invalid_argument for a name that is no token, for a value with a
    /// control character, a space, one of " , ; \ or what is no ASCII (encode such a value), for attributes that would
    /// end in others, and for a combination that browsers refuse: SameSite=None, Partitioned, __Secure- or __Host-
    /// without secure, __Host- with a domain or another path than "/".
    void set_cookie(std::string_view name, std::string_view value, cookie_options options = {});
    /// Of a server: tells the client to forget a cookie. Path, domain and secure are those that it was set with.
    void delete_cookie(std::string_view name, cookie_options options = {});

    int status() const noexcept { return status_; }     // The status code: 200, 404.
    bool ok() const noexcept { return status_ < 400; }  // True for a status below 400, as requests' Response.ok.
    const http::headers& headers() const noexcept { return headers_; }  // The header fields.
    http::headers& headers() noexcept { return headers_; }
    /// The fields that come after the body, and are never merged into headers(). Of a server they may be set: they go
    /// out behind a body in chunks (HTTP/1.1) or in frames (HTTP/2). Where there is no place for them, in HTTP/1.0 and
    /// behind a file in HTTP/1.1, they are left out. A field that a client needs before the body (RFC 9110, 6.5.1: of
    /// framing, routing, conditions, authentication, content) is a mistake: the response becomes a 500, and one whose
    /// generator has made that mistake is cut.
    const http::headers& trailers() const noexcept { return trailers_; }
    http::headers& trailers() noexcept { return trailers_; }
    /// The body. `std::move(r).text()` moves it out.
    const std::string& text() const& noexcept { return body_; }
    std::string text() && noexcept { return std::move(body_); }
    /// The body as JSON: a nlohmann::json. Throws nlohmann::json::parse_error.
    template<class Json = detail::include_aio_http_json_hpp>
    auto json() const {
        return detail::http_json_text<Json>::read(body_);
    }
    /// Of a client's response: the URL it came from, after redirects, without user and password.
    const std::string& url() const noexcept { return url_; }
    /// Throws status_error if the status is 400 or more.
    void raise_for_status() const;
    /// Of a client's response: the version of the protocol that the server answered with.
    http::version version() const noexcept { return version_; }

private:
    friend struct detail::http_access;
    int status_ = 200;
    http::version version_ = http::version::v1_1;
    std::string body_;
    http::headers headers_;
    http::headers trailers_;
    std::string url_;
    std::shared_ptr<detail::http_special_body> special_;  // instead of body_
};

/// A request as a server's handler gets it. A request is a value: it owns its text.
class request {
public:
    request() = default;
    /// What a client sent; tests of handlers make one by hand. Throws std::invalid_argument unless target is of a form
    /// of RFC 9112: "/path?query", "http://host/path?query", "*" for OPTIONS, "host:port" for CONNECT.
    request(std::string method, std::string target, http::headers fields = {}, std::string body = {},
        std::string peer = {});

    /// "GET", as it was sent: methods are case-sensitive.
    const std::string& method() const noexcept { return method_; }
    /// The target as it was sent: "/a%20b?x=1".
    const std::string& target() const noexcept { return target_; }
    /// The path, percent-decoded, without the query: "/a b"; "*" for OPTIONS *.
    const std::string& path() const noexcept { return path_; }
    /// Gives the first value of this name in the query, decoded ('+' is a space); "" for a name without "=".
    std::optional<std::string> query(std::string_view name) const;
    /// Gives all of the query, decoded: for names that come several times.
    values query() const;
    /// Gives a parameter of the path, decoded: "7" for "id", if the route "/users/{id}" of an http::router has taken
    /// "/users/7". If a router that is mounted below a parameter has one of the same name, that of the inner router is
    /// given. Throws std::out_of_range, which names the pattern, if the route has no such parameter.
    const std::string& param(std::string_view name) const;
    /// Gives the cookies that the client sends. Values are as they were sent, but for quotes around them.
    values cookies() const;
    /// Gives the fields of an urlencoded body, decoded; none of an empty body. Throws refusal: 415 if Content-Type says
    /// that the body is something else, 413 for too many fields; std::logic_error in an unbuffered handler, whose body
    /// has not been read.
    http::form form(form_options options = {}) const;
    /// Gives the parts of a multipart body while they come, each valid until the following next(), and each read by
    /// text() or stream() or skipped. It takes the body, as stream() does. Throws refusal: 415 if Content-Type says
    /// that the body is something else; by next(), 400 for a body that breaks the format, 413 beyond the options.
    /// Source: RFC 7578.
    async_generator<part> parts(multipart_options options = {});
    /// Gives the parts of a multipart body, all of them at once; for small forms. It takes the body. Throws the errors
    /// of parts(). Revertible.
    coro<http::multipart> multipart(multipart_options options = {});
    const http::headers& headers() const noexcept { return headers_; }  // The header fields.
    /// The fields that came after a body in chunks. Nobody has checked them: never trust one as a header. Of a handler
    /// that was wrapped in unbuffered(), they are there when stream() has ended.
    const http::headers& trailers() const noexcept;
    /// The body as it was sent, decoded from chunks; empty in an unbuffered handler. `std::move(r).body()`
    /// moves it out.
    const std::string& body() const& noexcept { return body_; }
    std::string body() && noexcept { return std::move(body_); }
    /// The body as JSON: a nlohmann::json. Throws refusal: 400 if it is not JSON. A value that lacks what the handler
    /// asks it for throws a nlohmann::json::exception, which is a 500 unless somebody catches it.
    template<class Json = detail::include_aio_http_json_hpp>
    auto json() const {
        return detail::http_json_text<Json>::read_request(body_);
    }
    /// The client's address: "127.0.0.1:51820".
    const std::string& peer() const noexcept { return peer_; }
    http::version version() const noexcept { return version_; }  // The version of the protocol that the client speaks.
    /// Gives the body piece by piece, none of them empty. Of a handler that was wrapped in unbuffered(), the pieces
    /// come from the connection while the handler reads, and the client has to wait while it does not; of any other
    /// handler it is body(). It may be called once. next() throws http::error for a body that breaks the protocol, is
    /// too large or is cut short, timeout_error for one that is too slow. A cancel of next() ends the generator; the
    /// server drops the rest of the body. The generator needs the request no more.
    async_generator<std::string> stream();

private:
    friend struct detail::http_access;
    std::string method_ = "GET";
    std::string target_ = "/";
    std::string path_ = "/";
    http::headers headers_;
    http::headers trailers_;
    std::string body_;
    std::string peer_;
    http::version version_ = http::version::v1_1;
    std::shared_ptr<detail::http_body_source> source_;              // of a body that has not been read
    std::shared_ptr<const detail::http_route> route_;               // that a router has found
    std::vector<std::pair<std::string_view, std::string>> params_;  // the names are the router's, which route_ keeps
};

/// Gives the usual phrase for a status: "Not Found". "Unknown" if there is none.
std::string_view reason(int status) noexcept;
/// Gives "HTTP/1.1".
std::string_view name(version v) noexcept;

}  // namespace aio::inline v0::http

namespace aio::inline v0::detail {
/// The answer that a handler has thrown.
http::response http_response_of(const http::refusal& refusal);
}  // namespace aio::inline v0::detail
