// session::websocket: what the session's options mean for a WebSocket.

#include "http/client/multi.hpp"
#include "http/websocket/client.hpp"

#include <stdexcept>

namespace aio::inline v0::http {

coro<http::websocket> session::websocket(std::string url, websocket_options options) {
    if (!multi_) throw std::logic_error("this http::session was moved from");
    if (multi_->is_closed()) throw std::logic_error("session::websocket: the session has been closed");
    const detail::session_settings& s = multi_->settings;
    if (!s.proxy.empty()) {
        throw std::invalid_argument("session::websocket: the session has a proxy, through which no WebSocket goes");
    }
    detail::websocket_route route;
    route.user_agent = s.user_agent;
    route.unix_socket = s.unix_socket;
    if (route.unix_socket.starts_with('@')) route.unix_socket[0] = '\0';
    route.fields = s.fields;
    route.auth = s.auth;
    route.auth_origin = s.base_origin;
    if (!s.ca_file.empty() || !s.client_certificate.empty() || !s.verify) {
        route.trust = tls_context::client();
        if (!s.ca_file.empty()) route.trust.trust_file(s.ca_file);
        if (!s.client_certificate.empty()) {
            route.trust.certificate(s.client_certificate, s.client_key.empty() ? s.client_certificate : s.client_key);
        }
        if (!s.verify) route.trust.verify(false);
    }
    if (!s.base_url.empty() && url.find("://") == url.npos) {
        if (url.starts_with('/')) url.erase(0, 1);
        url = s.base_url + url;
    }
    return detail::open_websocket(std::move(route), url, options);
}

}  // namespace aio::inline v0::http
