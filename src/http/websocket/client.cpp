#include "http/websocket/client.hpp"

#include "http/access.hpp"
#include "http/client/url.hpp"
#include "http/websocket/handshake.hpp"
#include "http/websocket/state.hpp"

#include <aio/http/authorization.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <charconv>
#include <memory>
#include <new>
#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

struct url_parts {
    std::string shown;   // without user and password
    std::string origin;  // as checked_url's
    std::string host;    // "example.org", "::1"
    std::string authority;
    std::string target;
    std::string authorization;  // "Basic ..."; empty if the URL names no user
    int port = 0;
    bool tls = false;
};

// libcurl 7.88 knows no ws://, so it is read as http://.
std::string as_http(const std::string& url) {
    const std::size_t end = std::min(url.find("://"), url.size());
    const std::string_view scheme = std::string_view(url).substr(0, end);
    if (equal_ignoring_case(scheme, "ws")) return "http" + url.substr(end);
    if (equal_ignoring_case(scheme, "wss")) return "https" + url.substr(end);
    return url;
}

url_parts parse(const std::string& url) {
    const checked_url_ptr checked = check_url("WebSocket", as_http(url));
    if (url.find('#') != url.npos) {
        throw std::invalid_argument("WebSocket " + checked->shown + ": the URL of a WebSocket has no fragment");
    }
    url_handle u;
    if (curl_url_set(u.url, CURLUPART_URL, checked->url.c_str(), 0) != CURLUE_OK) throw std::bad_alloc();
    url_parts parts;
    parts.tls = checked->secure;
    parts.shown = (parts.tls ? "wss" : "ws") + checked->shown.substr(checked->shown.find("://"));
    parts.origin = checked->origin;
    const std::string user = u.get(CURLUPART_USER, CURLU_URLDECODE);
    if (!user.empty()) parts.authorization = http::basic(user, u.get(CURLUPART_PASSWORD, CURLU_URLDECODE));
    const std::string host = u.get(CURLUPART_HOST);
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
        if (!url.authorization.empty()) {
            fields.add("Authorization", url.authorization);
        } else if (!route.auth.empty() && (route.auth_origin.empty() || route.auth_origin == url.origin)) {
            fields.add("Authorization", route.auth);
        }
        if (!route.user_agent.empty()) fields.add("User-Agent", route.user_agent);
        add_fields(fields, route.fields);
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
        for (const auto& [name, value] : more) fields.remove(name);
        for (const auto& [name, value] : more) fields.add(name, value);
    }
};

coro<stream> connect(const handshake& h) {
    stream_options options;
    options.handshake_timeout = std::nullopt;  // open_timeout bounds it
    if (h.url.tls) {
        options.tls = true;
        options.server_name = h.url.host;
        if (h.route.trust) options.context = &h.route.trust;
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
    return open_in_time(std::make_unique<handshake>(std::move(route), url, options), options.open_timeout);
}

}  // namespace aio::inline v0::detail
