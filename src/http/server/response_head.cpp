// Writes the heads of responses: request_parser.cpp's other half.

#include "http/server/response_head.hpp"

#include "http/access.hpp"

#include <charconv>
#include <stdexcept>
#include <system_error>

namespace aio::detail {

const std::string& http_date(std::time_t now) {
    thread_local std::time_t last = 0;
    thread_local std::string formatted;
    if (now == last && !formatted.empty()) return formatted;
    last = now;
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm t{};
    ::gmtime_r(&now, &t);
    char rest[40];
    std::strftime(rest, sizeof rest, " %Y %H:%M:%S GMT", &t);
    char day[16];
    std::snprintf(day, sizeof day, "%s, %02d ", days[t.tm_wday], t.tm_mday);  // strftime's names depend on the locale
    formatted = std::string(day) + months[t.tm_mon] + rest;
    return formatted;
}

bool http_asks_to_close(const http::response& r) { return list_has(r.headers()["Connection"], "close"); }

std::optional<std::uint64_t> http_content_length(const http::response& r) {
    const std::string& text = r.headers()["Content-Length"];
    if (text.empty()) return std::nullopt;
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    if (error != std::errc() || end != text.data() + text.size()) {
        throw std::invalid_argument("http::response: the Content-Length \"" + text + "\" is no number");
    }
    return length;
}

namespace {

void append_number(std::string& out, std::uint64_t number) {
    char digits[20];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

void append_status(std::string& out, int status) {
    out += "HTTP/1.1 ";
    append_number(out, static_cast<std::uint64_t>(status));
    out.append(" ").append(http::reason(status)).append("\r\n");
}

// How the message ends, and what becomes of the connection.
void append_ending(std::string& out, const http::response& r, const response_form& form, bool measured) {
    switch (form.framing) {
        case body_framing::text:
            if (measured) break;
            out += "Content-Length: ";
            append_number(out, http_has_body(r.status()) ? r.text().size() : 0);
            out += "\r\n";
            break;
        case body_framing::counted:
            if (measured) break;
            out += "Content-Length: ";
            append_number(out, form.length);
            out += "\r\n";
            break;
        case body_framing::chunked: out += "Transfer-Encoding: chunked\r\n"; break;
        case body_framing::until_close: break;
        case body_framing::upgrade: out += "Connection: Upgrade\r\n"; return;
    }
    if (!form.keep_alive) {
        out += "Connection: close\r\n";
    } else if (form.http_1_0) {
        out += "Connection: keep-alive\r\n";
    }
}

}  // namespace

void append_response_head(std::string& out, const http::response& r, const response_form& form) {
    append_status(out, r.status());
    bool dated = false;
    bool measured = r.status() == 204 || r.status() == 304;  // these have no Content-Length at all; 205 has 0
    for (const auto& [name, value] : r.headers()) {
        if (equal_ignoring_case(name, "Transfer-Encoding") || equal_ignoring_case(name, "Connection")) continue;
        if (equal_ignoring_case(name, "Content-Length")) {
            // Only an answer to HEAD may have a Content-Length of the handler's.
            const bool has_text = form.framing == body_framing::text && !r.text().empty();
            if (!form.head_only || measured || r.status() == 205 || has_text) continue;
            measured = true;
        }
        dated = dated || equal_ignoring_case(name, "Date");
        out.append(name).append(": ").append(value).append("\r\n");
    }
    if (!dated) out.append("Date: ").append(http_date(std::time(nullptr))).append("\r\n");
    append_ending(out, r, form, measured);
    out += "\r\n";
}

}  // namespace aio::detail
