// An engine without a connection: it makes a request, calls the handler, and brings the response's body together. URLs
// are taken apart by libcurl, as http::session's are, so that both send the same target.

#include <aio/http/test_client.hpp>

#include "http/access.hpp"
#include "http/app/date.hpp"
#include "http/body.hpp"
#include "http/websocket/handshake.hpp"
#include "http/websocket/state.hpp"

#include <aio/event_loop.hpp>
#include <aio/task.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <optional>

#include <curl/curl.h>

namespace aio::inline v0::detail {

struct test_client_state {
    http_handler handler;
    bool throw_errors = false;
    bool keeps_cookies = false;
    std::string base_url;
    std::string peer;
    std::vector<http::values::field> cookies;
    std::vector<task<>> upgraded;  // the handlers behind upgrades

    ~test_client_state() {
        for (task<>& t : upgraded) t.cancel();
    }
};

namespace {

/// A URL, taken apart by libcurl.
class test_url {
public:
    test_url() : handle_(::curl_url()) {
        if (!handle_) throw std::bad_alloc();
    }
    ~test_url() { ::curl_url_cleanup(handle_); }
    test_url(const test_url&) = delete;
    test_url& operator=(const test_url&) = delete;

    /// Goes to a URL, which may be relative to the one before. False if it is malformed.
    bool go(const std::string& url, unsigned flags) {
        if (url.find('\0') != url.npos) return false;
        return ::curl_url_set(handle_, CURLUPART_URL, url.c_str(), flags | CURLU_URLENCODE) == CURLUE_OK;
    }
    std::string part(CURLUPart what, unsigned flags = 0) const {
        char* text = nullptr;
        if (::curl_url_get(handle_, what, &text, flags) != CURLUE_OK) return {};
        const std::unique_ptr<char, void (*)(void*)> owner(text, &::curl_free);
        return std::string(text);
    }
    std::string authority() const {
        const std::string port = part(CURLUPART_PORT);
        return part(CURLUPART_HOST) + (port.empty() ? "" : ":" + port);
    }
    std::string target() const {
        const std::string query = part(CURLUPART_QUERY);
        return part(CURLUPART_PATH) + (query.empty() ? "" : "?" + query);
    }
    std::string origin() const { return part(CURLUPART_SCHEME) + "://" + authority(); }
    std::string text() const { return origin() + target(); }

private:
    CURLU* handle_;
};

/// What the options of a request say, and its body.
struct test_request {
    std::string method;
    std::string url;
    std::string body;
    std::optional<async_generator<std::string>> pieces;  // instead of the body
    http::headers fields;
    delay timeout = std::nullopt;
    bool follow = true;
    std::size_t max_redirects = 20;
    std::size_t max_body = std::size_t{1} << 30;
    bool any_size = false;

    test_request(std::string with, std::string to, std::string text, const http::request_options& options)
        : method(std::move(with)),
          url(std::move(to)),
          body(std::move(text)),
          timeout(options.timeout),
          follow(options.follow_redirects),
          max_redirects(options.max_redirects) {
        if (options.headers.get()) fields = *options.headers.get();
        if (!options.auth.empty()) fields.set("Authorization", options.auth);
        if (options.params.get() && !options.params.get()->empty()) {
            url.resize(std::min(url.find('#'), url.size()));
            url.append(url.find('?') == url.npos ? "?" : "&").append(options.params.get()->to_string());
        }
        if (options.max_body_size) {
            any_size = *options.max_body_size == 0;
            max_body = *options.max_body_size;
        }
        if (fields.contains("Content-Length") || fields.contains("Transfer-Encoding"))
            throw std::invalid_argument("http::test_client: the library says how long a message is, not its headers");
    }
};

/// The body of a request for an unbuffered handler: a text, or what a generator gives.
class test_source final : public http_body_source {
public:
    explicit test_source(std::string text) : text_(std::move(text)) {}
    explicit test_source(async_generator<std::string> pieces) : pieces_(std::move(pieces)) {}
    coro<std::string> next() override {
        if (!pieces_) co_return std::exchange(text_, {});
        for (;;) {
            std::string* const piece = co_await pieces_->next();
            if (!piece) co_return std::string();
            if (!piece->empty()) co_return std::move(*piece);
        }
    }

private:
    std::string text_;
    std::optional<async_generator<std::string>> pieces_;
};

std::string cookie_field(const test_client_state& state) {
    std::string all;
    for (const auto& [name, value] : state.cookies) all.append(all.empty() ? "" : "; ").append(name + "=" + value);
    return all;
}

bool is_removed(std::string_view attributes) {
    bool removed = false;
    while (!attributes.empty()) {
        const std::string_view one = trimmed(attributes.substr(0, attributes.find(';')));
        attributes.remove_prefix(std::min(attributes.find(';'), attributes.size() - 1) + 1);
        const std::size_t equals = std::min(one.find('='), one.size());
        const std::string_view value = one.substr(std::min(equals + 1, one.size()));
        if (equal_ignoring_case(one.substr(0, equals), "Max-Age")) return value == "0" || value.starts_with('-');
        if (equal_ignoring_case(one.substr(0, equals), "Expires")) {
            const std::optional<std::int64_t> when = parse_http_date(value);
            removed = when && *when <= std::time(nullptr);
        }
    }
    return removed;
}

void keep_cookies(test_client_state& state, const http::response& r) {
    if (!state.keeps_cookies) return;
    for (const std::string& field : r.headers().get_all("Set-Cookie")) {
        const std::string_view text = field;
        const std::string_view pair = text.substr(0, text.find(';'));
        const std::size_t equals = pair.find('=');
        if (equals == pair.npos) continue;
        const std::string name(trimmed(pair.substr(0, equals)));
        std::erase_if(state.cookies, [&](const http::values::field& f) { return f.name == name; });
        if (!is_removed(text.substr(std::min(pair.size() + 1, text.size()))))
            state.cookies.push_back({name, std::string(trimmed(pair.substr(equals + 1)))});
    }
}

coro<> collect_pieces(test_request& what) {
    if (!what.pieces) co_return;
    async_generator<std::string> pieces = std::move(*what.pieces);
    what.pieces.reset();
    while (std::string* piece = co_await pieces.next()) { what.body += *piece; }
}

http::request head_of(const test_client_state& state, const test_request& what, const test_url& url) {
    http::headers fields = what.fields;
    if (!fields.contains("Host")) fields.add("Host", url.authority());
    const bool has_body = !what.body.empty() || what.method == "POST" || what.method == "PUT" || what.method == "PATCH";
    if (what.pieces) {
        fields.add("Transfer-Encoding", "chunked");
    } else if (has_body) {
        fields.add("Content-Length", std::to_string(what.body.size()));
    }
    if (!state.cookies.empty() && !fields.contains("Cookie")) fields.add("Cookie", cookie_field(state));
    const bool whole = what.method == "OPTIONS" && what.url == "*";
    return http::request(what.method, whole ? "*" : url.target(), std::move(fields), {}, state.peer);
}

// Calls the handler as a server does.
coro<http::response> answer(test_client_state& state, http::request request) {
    const std::string what = request.method() + " " + request.target();
    std::exception_ptr error;
    try {
        co_return co_await state.handler.call(std::move(request));
    } catch (const cancelled_error&) { throw; } catch (const http::refusal& refusal) {
        co_return http_response_of(refusal);
    } catch (...) { error = std::current_exception(); }
    if (state.throw_errors) std::rethrow_exception(error);
    get_running_loop().call_exception_handler({"exception in the HTTP handler of " + what, error, current_task()});
    co_return http::response(500, "Internal Server Error\n", http::headers("Content-Type", "text/plain"));
}

coro<http::response> call_once(test_client_state& state, test_request& what, const test_url& url) {
    http::request request = head_of(state, what, url);
    const bool comes_later = what.pieces || !what.body.empty();
    if (comes_later && state.handler.unbuffered && state.handler.unbuffered(request)) {
        std::shared_ptr<http_body_source> source;
        if (what.pieces) {
            source = std::make_shared<test_source>(std::move(*what.pieces));
            what.pieces.reset();
        } else {
            source = std::make_shared<test_source>(what.body);
        }
        http_access::set_source(request, std::move(source));
    } else {
        co_await collect_pieces(what);
        http_access::body(request) = what.body;
    }
    http::response r = co_await answer(state, std::move(request));
    http_access::set_url(r, url.text());
    keep_cookies(state, r);
    co_return r;
}

bool is_redirect(int status) noexcept {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// Goes to where a redirect leads. False if that is another host, or a body cannot be sent again.
bool follow(const http::response& r, test_request& what, test_url& url, bool streamed) {
    const std::string origin = url.origin();
    if (!url.go(r.headers()["Location"], 0)) throw http::error("the server redirects to a malformed URL");
    if (url.origin() != origin) return false;
    const bool to_get = (r.status() == 303 && what.method != "HEAD") ||
        ((r.status() == 301 || r.status() == 302) && what.method == "POST");
    if (to_get) {
        what.method = "GET";
        what.body = {};
        what.fields.remove("Content-Type");
        return true;
    }
    return !streamed;
}

coro<http::response> call_to_the_end(test_client_state& state, test_request& what) {
    test_url url;
    if (!url.go(state.base_url, 0)) throw std::invalid_argument("http::test_client: the base URL is malformed");
    std::string to = what.url == "*" ? "/" : what.url;
    if (to.starts_with('/')) to = url.origin() + to;  // "//x" is a path here, and no host
    if (to.empty() || !url.go(to, CURLU_PATH_AS_IS))
        throw std::invalid_argument("http::test_client: \"" + what.url + "\" is no URL");
    const bool streamed = what.pieces.has_value();
    for (std::size_t redirects = 0;; ++redirects) {
        http::response r = co_await call_once(state, what, url);
        if (!what.follow || !is_redirect(r.status()) || !r.headers().contains("Location")) co_return r;
        if (redirects == what.max_redirects) throw http::error("more than " + std::to_string(redirects) + " redirects");
        if (!follow(r, what, url, streamed)) co_return r;
    }
}

std::optional<std::uint64_t> length_of(const http::response& r) {
    const std::string& text = r.headers()["Content-Length"];
    std::uint64_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return n;
}

/// Gives the body of a response, whatever it is made of. It owns the response's body.
async_generator<std::string> body_pieces(std::shared_ptr<http_special_body> special, std::string text) {
    if (!text.empty()) co_yield std::move(text);
    if (!special) co_return;
    if (special->upgrade) throw http::error("this is an upgrade: open it with test_client::websocket()");
    if (special->pieces) {
        while (std::string* piece = co_await special->pieces->next()) {
            if (!piece->empty()) co_yield std::move(*piece);
        }
    }
    if (special->source) {
        constexpr std::uint64_t most = 256 * 1024;
        std::uint64_t at = special->offset, left = special->count;
        while (left > 0) {
            const std::size_t size = static_cast<std::size_t>(std::min(most, left));
            std::string piece = co_await special->source->read_at(static_cast<std::int64_t>(at), size);
            if (piece.empty()) throw http::error("the file has become shorter while it was sent");
            at += piece.size();
            left -= piece.size();
            co_yield std::move(piece);
        }
        co_await special->source->aclose();
    }
}

bool has_body(const std::string& method, int status) noexcept {
    return method != "HEAD" && status != 204 && status != 205 && status != 304;
}

// The length that a server says.
void set_length(http::response& r, const http_special_body* special) {
    if (r.status() == 204 || r.status() == 304) {
        r.headers().remove("Content-Length");
    } else if (special && special->source) {
        r.headers().set("Content-Length", std::to_string(special->count));
    } else if (!special && (!r.text().empty() || !length_of(r))) {
        r.headers().set("Content-Length", std::to_string(r.text().size()));
    }
}

coro<http::response> with_body(test_client_state& state, http::response r, const test_request& what) {
    const std::shared_ptr<http_special_body> special = http_access::special(r);
    set_length(r, special.get());
    if (!has_body(what.method, r.status())) {
        http_access::body(r) = {};
        r.trailers() = {};
        http_access::special(r) = nullptr;
        if (special && special->pieces) co_await special->pieces->aclose();
        co_return r;
    }
    const std::optional<std::uint64_t> expected = special && special->pieces ? length_of(r) : std::nullopt;
    auto pieces = body_pieces(special, std::exchange(http_access::body(r), {}));
    std::string all;
    std::exception_ptr error;
    try {
        http_check_trailers(r);
        while (std::string* piece = co_await pieces.next()) {
            if (!what.any_size && piece->size() > what.max_body - std::min(what.max_body, all.size()))
                throw http::error("the body is larger than max_body_size");
            all += *piece;
        }
        http_take_trailers(r);
    } catch (const cancelled_error&) { throw; } catch (...) {
        error = std::current_exception();
    }
    co_await pieces.aclose();
    if (error && state.throw_errors) std::rethrow_exception(error);
    if (error) throw http::error("the body is cut short: " + describe(error));
    if (expected && *expected != all.size()) {
        throw http::error("the body has " + std::to_string(all.size()) + " bytes, and Content-Length says " +
            std::to_string(*expected));
    }
    http_access::special(r) = nullptr;
    http_access::body(r) = std::move(all);
    co_return r;
}

coro<http::response> exchange(std::shared_ptr<test_client_state> state, test_request what) {
    http::response r = co_await call_to_the_end(*state, what);
    co_return co_await with_body(*state, std::move(r), what);
}

coro<http::response> exchange_in_time(std::shared_ptr<test_client_state> state, test_request what) {
    const delay limit = what.timeout;
    if (!limit) co_return co_await exchange(std::move(state), std::move(what));
    co_return co_await wait_for(exchange(std::move(state), std::move(what)), limit);
}

async_generator<std::string> stream_of(std::shared_ptr<test_client_state> state, test_request what) {
    http::response r = co_await call_to_the_end(*state, what);
    r.raise_for_status();
    auto pieces = body_pieces(std::exchange(http_access::special(r), nullptr), std::exchange(http_access::body(r), {}));
    while (std::string* piece = co_await pieces.next()) { co_yield std::move(*piece); }
}

// ---- WebSockets

/// What is to be agreed on in a handshake.
struct test_handshake {
    test_request request;
    websocket_settings settings;
    std::vector<std::string> subprotocols;
    std::string key = websocket_key();
    delay limit;

    test_handshake(std::string url, const http::websocket_options& options)
        : request("GET", as_http(std::move(url)), {}, with_fields(options)),
          settings(false, options),
          subprotocols(options.subprotocols.get()),
          limit(options.open_timeout) {
        check_subprotocols(subprotocols, "http::test_client::websocket()");
        http::headers& fields = request.fields;
        for (const std::string_view ours : {"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
                 "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"}) {
            if (fields.contains(ours)) {
                throw std::invalid_argument(
                    "http::test_client::websocket(): the header " + std::string(ours) + " is the library's own");
            }
        }
        fields.add("Upgrade", "websocket");
        fields.add("Connection", "Upgrade");
        fields.add("Sec-WebSocket-Key", key);
        fields.add("Sec-WebSocket-Version", "13");
        std::string names;
        for (const std::string& name : subprotocols) names.append(names.empty() ? "" : ", ").append(name);
        if (!names.empty()) fields.add("Sec-WebSocket-Protocol", names);
    }

private:
    static std::string as_http(std::string url) {  // libcurl 7.88 knows no ws://
        if (url.starts_with("ws://") || url.starts_with("wss://")) url.replace(0, 2, "http");
        return url;
    }
    static http::request_options with_fields(const http::websocket_options& options) {
        http::request_options all;
        all.headers = options.headers;
        return all;
    }
};

coro<> serve_upgrade(std::shared_ptr<http_special_body> special, stream connection, std::string what) {
    std::exception_ptr error;
    try {
        co_await special->upgrade(std::move(connection));
    } catch (const cancelled_error&) { throw; } catch (...) {
        error = std::current_exception();
    }
    if (error)
        get_running_loop().call_exception_handler(
            {"exception behind the upgraded connection of " + what, error, current_task()});
}

coro<http::websocket> shake_hands(std::shared_ptr<test_client_state> state, test_handshake& h) {
    const std::string shown = h.request.url;
    http::response r = co_await call_to_the_end(*state, h.request);
    if (r.status() != 101) throw http::status_error(r.status(), r.url());
    response_head head;
    head.status = r.status();
    head.fields = r.headers();
    std::string subprotocol = check_handshake(head, h.key, h.subprotocols, "WebSocket " + shown);
    auto special = std::exchange(http_access::special(r), nullptr);
    if (!special || !special->upgrade) throw http::error("WebSocket " + shown + ": the 101 has nothing behind it");
    constexpr std::size_t on_its_way = 64 * 1024;
    auto [ours, theirs] = connected_in_memory(on_its_way, on_its_way);
    std::erase_if(state->upgraded, [](const task<>& t) { return t.done(); });
    state->upgraded.reserve(state->upgraded.size() + 1);
    state->upgraded.push_back(
        create_task(serve_upgrade(std::move(special), stream(std::move(theirs)), "GET " + shown)));
    auto ws = std::make_shared<websocket_state>(stream(std::move(ours)), h.settings, std::move(subprotocol));
    ws->start_keep_alive();
    co_return http::websocket(std::move(ws));
}

coro<http::websocket> open_in_time(std::shared_ptr<test_client_state> state, std::unique_ptr<test_handshake> h) {
    co_return co_await wait_for(shake_hands(std::move(state), *h), h->limit);
}

http::headers with_type(const http::request_options& options, const std::string& type) {
    http::headers fields;
    if (options.headers.get()) fields = *options.headers.get();
    if (!fields.contains("Content-Type")) fields.add("Content-Type", type);
    return fields;
}

}  // namespace

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

test_client::test_client(detail::http_handler handler, test_client_options options)
    : state_(std::make_shared<detail::test_client_state>()) {
    state_->handler = std::move(handler);
    state_->throw_errors = options.throw_errors;
    state_->keeps_cookies = options.cookies;
    state_->base_url = options.base_url;
    state_->peer = options.peer;
}

coro<response> test_client::request(std::string method, std::string url, std::string body, request_options options) {
    detail::test_request what(std::move(method), std::move(url), std::move(body), options);
    return detail::exchange_in_time(state_, std::move(what));
}
coro<response> test_client::get(std::string url, request_options options) {
    return request("GET", std::move(url), {}, options);
}
coro<response> test_client::head(std::string url, request_options options) {
    return request("HEAD", std::move(url), {}, options);
}
coro<response> test_client::post(std::string url, std::string body, request_options options) {
    return request("POST", std::move(url), std::move(body), options);
}
coro<response> test_client::put(std::string url, std::string body, request_options options) {
    return request("PUT", std::move(url), std::move(body), options);
}
coro<response> test_client::patch(std::string url, std::string body, request_options options) {
    return request("PATCH", std::move(url), std::move(body), options);
}
coro<response> test_client::del(std::string url, request_options options) {
    return request("DELETE", std::move(url), {}, options);
}
coro<response> test_client::post(std::string url, const http::form& body, request_options options) {
    const http::headers fields = detail::with_type(options, http::form::content_type());
    options.headers = fields;
    return request("POST", std::move(url), body.body(), options);
}
coro<response> test_client::post(std::string url, const http::multipart& body, request_options options) {
    const http::headers fields = detail::with_type(options, body.content_type());
    options.headers = fields;
    if (!body.in_memory()) return upload("POST", std::move(url), body.stream(), options);
    return request("POST", std::move(url), body.body(), options);
}

coro<response> test_client::upload(
    std::string method, std::string url, async_generator<std::string> body, request_options options) {
    detail::test_request what(std::move(method), std::move(url), {}, options);
    what.pieces.emplace(std::move(body));
    return detail::exchange_in_time(state_, std::move(what));
}

coro<http::websocket> test_client::websocket(std::string url, websocket_options options) {
    return detail::open_in_time(state_, std::make_unique<detail::test_handshake>(std::move(url), options));
}

async_generator<std::string> test_client::stream(std::string url, request_options options) {
    detail::test_request what("GET", std::move(url), {}, options);
    return detail::stream_of(state_, std::move(what));
}

}  // namespace aio::inline v0::http
