#include <aio/http/message.hpp>

#include "access.hpp"
#include "target.hpp"

namespace aio::http {

namespace {

int hex(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// %XX as the byte it stands for. In a query '+' is a space. What cannot be decoded stays as it is.
void decode(std::string_view text, bool in_query, std::string& out) {
    out.clear();
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '%') {
            const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1;
            const int low = high >= 0 ? hex(text[i + 2]) : -1;
            if (low >= 0) {
                out.push_back(static_cast<char>(high * 16 + low));
                i += 2;
                continue;
            }
        }
        out.push_back(in_query && c == '+' ? ' ' : c);
    }
}

// No client sends one, but a request made by hand may have it.
std::string_view without_fragment(std::string_view target) noexcept { return target.substr(0, target.find('#')); }

}  // namespace

status_error::status_error(int status, std::string url)
    : error(url + ": the server answered " + std::to_string(status) + " " + std::string(reason(status))),
      status_(status),
      url_(std::move(url)) {}

// The registered ones: https://www.iana.org/assignments/http-status-codes
std::string_view reason(int status) noexcept {
    switch (status) {
        case 100: return "Continue";
        case 101: return "Switching Protocols";
        case 102: return "Processing";
        case 103: return "Early Hints";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 203: return "Non-Authoritative Information";
        case 204: return "No Content";
        case 205: return "Reset Content";
        case 206: return "Partial Content";
        case 207: return "Multi-Status";
        case 208: return "Already Reported";
        case 226: return "IM Used";
        case 300: return "Multiple Choices";
        case 301: return "Moved Permanently";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 305: return "Use Proxy";
        case 307: return "Temporary Redirect";
        case 308: return "Permanent Redirect";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 402: return "Payment Required";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 407: return "Proxy Authentication Required";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 411: return "Length Required";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 414: return "URI Too Long";
        case 415: return "Unsupported Media Type";
        case 416: return "Range Not Satisfiable";
        case 417: return "Expectation Failed";
        case 421: return "Misdirected Request";
        case 422: return "Unprocessable Content";
        case 423: return "Locked";
        case 424: return "Failed Dependency";
        case 425: return "Too Early";
        case 426: return "Upgrade Required";
        case 428: return "Precondition Required";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 451: return "Unavailable For Legal Reasons";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 502: return "Bad Gateway";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        case 505: return "HTTP Version Not Supported";
        case 506: return "Variant Also Negotiates";
        case 507: return "Insufficient Storage";
        case 508: return "Loop Detected";
        case 511: return "Network Authentication Required";
        default: return "Unknown";
    }
}

response::response(int status, std::string body, http::headers fields)
    : status_(status), body_(std::move(body)), headers_(std::move(fields)) {
    if (status < 200 || status > 599) {
        throw std::invalid_argument("http::response: " + std::to_string(status) + " is no status of a final response");
    }
}

void response::raise_for_status() const {
    if (status_ >= 400) throw status_error(status_, url_);
}

request::request(std::string method, std::string target, http::headers fields, std::string body, std::string peer)
    : method_(std::move(method)),
      target_(std::move(target)),
      headers_(std::move(fields)),
      body_(std::move(body)),
      peer_(std::move(peer)) {
    const std::optional<detail::http_target> parts = detail::parse_target(method_, without_fragment(target_));
    if (!parts) throw std::invalid_argument("http::request: \"" + target_ + "\" is no target of " + method_);
    decode(parts->path, false, path_);
}

std::optional<std::string> request::query(std::string_view name) const {
    const std::optional<detail::http_target> parts = detail::parse_target(method_, without_fragment(target_));
    if (!parts || !parts->query) return std::nullopt;
    std::string_view rest = *parts->query;
    std::string decoded;
    while (!rest.empty()) {
        const std::string_view pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(pair.size() < rest.size() ? pair.size() + 1 : pair.size());
        const std::size_t equals = std::min(pair.find('='), pair.size());
        decode(pair.substr(0, equals), true, decoded);
        if (decoded != name) continue;
        decode(equals < pair.size() ? pair.substr(equals + 1) : std::string_view(), true, decoded);
        return decoded;
    }
    return std::nullopt;
}

}  // namespace aio::http
