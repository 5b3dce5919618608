#include "http/websocket/client.hpp"

#include "http/access.hpp"
#include "http/websocket/handshake.hpp"
#include "http/websocket/state.hpp"

#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>
#include <memory>
#include <new>
#include <stdexcept>

#include <curl/curl.h>

namespace aio::detail {

namespace {

struct url_parts {
    std::string shown;  // without user and password
    std::string host;   // "example.org", "::1"
    std::string authority;
    std::string target;
    std::string authorization;  // "Basic ..."; empty if the URL names no user
    int port = 0;
    bool tls = false;
};

class parsed_url {
public:
    parsed_url() : url_(curl_url()) {
        if (!url_) throw std::bad_alloc();
    }
    ~parsed_url() { curl_url_cleanup(url_); }
    parsed_url(const parsed_url&) = delete;
    parsed_url& operator=(const parsed_url&) = delete;
    CURLUcode set(CURLUPart part, const char* text, unsigned flags = 0) {
        const CURLUcode code = curl_url_set(url_, part, text, flags);
        if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
        return code;
    }
    std::string get(CURLUPart part, unsigned flags = 0) const {
        char* text = nullptr;
        const CURLUcode code = curl_url_get(url_, part, &text, flags);
        const std::unique_ptr<char, void (*)(void*)> owner(text, &curl_free);
        if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
        return code == CURLUE_OK ? std::string(text) : std::string();
    }

private:
    CURLU* url_;
};

// A URL that could not be read is shown without what stands before its last @, which may be a password.
[[noreturn]] void refuse_url(const std::string& url, const char* why) {
    const std::size_t at = url.rfind('@');
    throw std::invalid_argument(
        "websocket(\"" + (at == url.npos ? url : "***" + url.substr(at)) + "\"): not a URL of a WebSocket: " + why);
}

// libcurl 7.88 knows no ws://, so it is read as http://.
std::string as_http(const std::string& url) {
    const std::size_t end = std::min(url.find("://"), url.size());
    const std::string_view scheme = std::string_view(url).substr(0, end);
    if (equal_ignoring_case(scheme, "ws")) return "http" + url.substr(end);
    if (equal_ignoring_case(scheme, "wss")) return "https" + url.substr(end);
    if (!equal_ignoring_case(scheme, "http") && !equal_ignoring_case(scheme, "https")) {
        refuse_url(url, "its scheme is not ws, wss, http or https");
    }
    return url;
}

url_parts parse(const std::string& url) {
    if (std::any_of(url.begin(), url.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; }))
        refuse_url(url, "it has a space or a control character");
    parsed_url u;
    const CURLUcode code = u.set(CURLUPART_URL, as_http(url).c_str(), CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE);
    if (code != CURLUE_OK) refuse_url(url, curl_url_strerror(code));
    if (url.find("///") == url.find("//")) refuse_url(url, "two slashes stand between scheme and host");
    if (!u.get(CURLUPART_FRAGMENT).empty()) refuse_url(url, "it has a fragment");
    url_parts parts;
    parts.tls = u.get(CURLUPART_SCHEME) == "https";
    const std::string user = u.get(CURLUPART_USER, CURLU_URLDECODE);
    if (!user.empty()) {
        parts.authorization = "Basic " + base64(user + ":" + u.get(CURLUPART_PASSWORD, CURLU_URLDECODE));
    }
    u.set(CURLUPART_USER, nullptr);
    u.set(CURLUPART_PASSWORD, nullptr);
    parts.shown = (parts.tls ? "wss" : "ws") + u.get(CURLUPART_URL).substr(parts.tls ? 5 : 4);
    const std::string host = u.get(CURLUPART_HOST);
    if (std::any_of(host.begin(), host.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
        refuse_url(url, "the host's name goes beyond ASCII: give it in its ASCII form, which begins with xn--");
    }
    parts.host = host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
    const std::string port = u.get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
    std::from_chars(port.data(), port.data() + port.size(), parts.port);
    parts.authority = host;
    if (parts.port != (parts.tls ? 443 : 80)) parts.authority += ":" + port;
    parts.target = u.get(CURLUPART_PATH);
    if (const std::string query = u.get(CURLUPART_QUERY); !query.empty()) parts.target += "?" + query;
    return parts;
}

struct handshake {
    websocket_route route;
    url_parts url;
    websocket_settings settings;
    std::vector<std::string> subprotocols;
    std::string key = websocket_key();
    std::string text;  // the request

    handshake(websocket_route r, const std::string& address, const http::websocket_options& o)
        : route(std::move(r)), url(parse(address)), settings(false, o), subprotocols(o.subprotocols.get()) {
        check_subprotocols(subprotocols, "websocket()");
        write_request(o.headers.get());
    }
    std::string what() const { return "WebSocket " + url.shown; }

private:
    void write_request(const http::headers* more) {
        http::headers fields("Host", url.authority, "Upgrade", "websocket", "Connection", "Upgrade",
            "Sec-WebSocket-Key", key, "Sec-WebSocket-Version", "13");
        std::string names;
        for (const std::string& name : subprotocols) names += (names.empty() ? "" : ", ") + name;
        if (!names.empty()) fields.add("Sec-WebSocket-Protocol", names);
        if (!url.authorization.empty()) fields.add("Authorization", url.authorization);
        if (!route.user_agent.empty()) fields.add("User-Agent", route.user_agent);
        if (!route.cookies.empty()) fields.add("Cookie", route.cookies);
        if (more) add_fields(fields, *more);
        text = "GET " + url.target + " HTTP/1.1\r\n";
        for (const auto& [name, value] : fields) text += name + ": " + value + "\r\n";
        text += "\r\n";
    }
    static void add_fields(http::headers& fields, const http::headers& more) {
        for (const auto& [name, value] : more) {
            for (const std::string_view ours : {"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
                     "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Content-Length", "Transfer-Encoding"}) {
                if (equal_ignoring_case(name, ours)) {
                    throw std::invalid_argument("websocket(): the header " + name + " is the library's own");
                }
            }
        }
        for (const std::string_view once : {"Host", "Authorization", "User-Agent", "Cookie"}) {
            if (more.contains(once)) fields.remove(once);
        }
        for (const auto& [name, value] : more) fields.add(name, value);
    }
};

coro<stream> connect(const handshake& h) {
    stream_options options;
    options.handshake_timeout = std::nullopt;  // open_timeout bounds it
    tls_context trust = h.route.trust;
    if (h.url.tls) {
        if (!trust) trust = tls_context::client();
        options.tls = true;
        options.context = &trust;
        options.server_name = h.url.host;
    }
    if (!h.route.unix_socket.empty()) return open_unix_connection(h.route.unix_socket, options);
    return open_connection(h.url.host, h.url.port, options);
}

// The head of an answer that is no HTTP, or is too long, is nothing.
coro<std::optional<response_head>> read_head(stream& s) {
    try {
        const std::string text = co_await s.read_until("\r\n\r\n");
        co_return parse_response_head(text);
    } catch (const incomplete_read_error&) {  // cut short
    } catch (const limit_overrun_error&) {    // too long
    }
    co_return std::nullopt;
}

coro<http::websocket> shake_hands(const handshake& h) {
    stream s = co_await connect(h);
    co_await s.write(std::string_view(h.text));
    const std::optional<response_head> head = co_await read_head(s);
    if (!head) throw http::error(h.what() + ": the server's answer is no HTTP, or was cut short");
    if (head->status != 101) throw http::status_error(head->status, h.url.shown);
    std::string subprotocol = check_handshake(*head, h.key, h.subprotocols, h.what());
    auto ws = std::make_shared<websocket_state>(std::move(s), h.settings, std::move(subprotocol));
    ws->start_keep_alive();
    co_return http::websocket(std::move(ws));
}

coro<http::websocket> open_in_time(std::unique_ptr<handshake> h, delay limit) {
    try {
        co_return co_await wait_for(shake_hands(*h), limit);
    } catch (const timeout_error&) {
        throw timeout_error(h->what() + ": the server has not completed the handshake in time");
    }
}

}  // namespace

coro<http::websocket> open_websocket(
    websocket_route route, const std::string& url, const http::websocket_options& options) {
    if (route.proxy) refuse_url(url, "WebSockets do not go through a proxy");
    return open_in_time(std::make_unique<handshake>(std::move(route), url, options), options.open_timeout);
}

}  // namespace aio::detail
