// Writes the heads of responses: request_parser.cpp's other half.

#include "http/server/response_head.hpp"

#include "http/access.hpp"

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace aio::inline v0::detail {

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

// How the message ends.
void append_ending(std::string& out, const http::response& r, const response_form& form) {
    switch (form.framing) {
        case body_framing::text:
            out += "Content-Length: ";
            append_number(out, http_has_body(r.status()) ? r.text().size() : 0);
            out += "\r\n";
            break;
        case body_framing::counted:
            out += "Content-Length: ";
            append_number(out, form.length.value_or(0));
            out += "\r\n";
            break;
        case body_framing::chunked: out += "Transfer-Encoding: chunked\r\n"; break;
        case body_framing::until_close:
        case body_framing::upgrade: break;
    }
}

/// What a field of the handler's means here. Those of one connection are the engine's (RFC 9110, 7.6.1), whatever the
/// handler says, which may have copied them from another server's response.
enum class field_kind : std::uint8_t { plain, dropped, connection, upgrade, trailer, length, date };

field_kind kind_of(std::string_view name) noexcept {
    const auto is = [name](std::string_view known, field_kind kind) {
        return equal_ignoring_case(name, known) ? kind : field_kind::plain;
    };
    switch (name.size()) {
        case 4: return is("Date", field_kind::date);
        case 7:
            if (equal_ignoring_case(name, "Trailer")) return field_kind::trailer;
            return is("Upgrade", field_kind::upgrade);
        case 10:
            if (equal_ignoring_case(name, "Keep-Alive")) return field_kind::dropped;
            return is("Connection", field_kind::connection);
        case 14: return is("Content-Length", field_kind::length);
        case 16: return is("Proxy-Connection", field_kind::dropped);
        case 17: return is("Transfer-Encoding", field_kind::dropped);
        default: return field_kind::plain;
    }
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
}

/// The options of the field Connection, each of them once.
class connection_options {
public:
    void add(std::string_view option) {
        if (option.empty() || list_has(list_, option)) return;
        if (!list_.empty()) list_ += ", ";
        list_ += option;
    }
    /// Adds those of the handler that name other fields of its response. The rest is the engine's to say.
    void add_all(std::string_view of_handler, const http::headers& fields) {
        for_each_element(of_handler, [&](std::string_view option) {
            if (kind_of(option) == field_kind::plain && fields.contains(option)) add(option);
        });
    }
    const std::string& text() const noexcept { return list_; }

private:
    std::string list_;
};

void append_connection(std::string& out, connection_options& options, const response_form& form) {
    if (form.framing == body_framing::upgrade) {
        options.add("Upgrade");
    } else if (!form.keep_alive) {
        options.add("close");
    } else if (form.http_1_0) {
        options.add("keep-alive");
    }
    if (!options.text().empty()) append_field(out, "Connection", options.text());
}

// Announces the trailers that are known (RFC 9110, 6.6.2).
void append_announcement(std::string& out, const http::response& r) {
    if (r.trailers().empty()) return;
    out += "Trailer";
    std::string_view before = ": ";
    for (const auto& [name, value] : r.trailers()) {
        out.append(before).append(name);
        before = ", ";
    }
    out += "\r\n";
}

/// Only an answer to HEAD may have a Content-Length of the handler's.
bool may_have_length(const http::response& r, const response_form& form) noexcept {
    const bool has_text = form.framing == body_framing::text && !r.text().empty();
    return form.head_only && r.status() != 205 && !has_text;
}

}  // namespace

void append_response_head(std::string& out, const http::response& r, const response_form& form) {
    append_status(out, r.status());
    const bool chunked = form.framing == body_framing::chunked;
    bool dated = false, announced = false;
    bool measured = r.status() == 204 || r.status() == 304;  // these have no Content-Length at all; 205 has 0
    connection_options options;
    for (const auto& [name, value] : r.headers()) {
        switch (kind_of(name)) {
            case field_kind::dropped: continue;
            case field_kind::connection: options.add_all(value, r.headers()); continue;
            case field_kind::upgrade: options.add("Upgrade"); break;
            case field_kind::trailer:
                if (!chunked) continue;
                announced = true;
                break;
            case field_kind::length:
                if (measured || !may_have_length(r, form)) continue;
                measured = true;
                break;
            case field_kind::date: dated = true; break;
            case field_kind::plain: break;
        }
        append_field(out, name, value);
    }
    if (!dated) append_field(out, "Date", http_date(std::time(nullptr)));
    if (chunked && !announced) append_announcement(out, r);
    if (!measured || chunked) append_ending(out, r, form);
    append_connection(out, options, form);
    out += "\r\n";
}

void append_last_chunk(std::string& out, const http::response& r) {
    out += "0\r\n";
    for (const auto& [name, value] : r.trailers()) append_field(out, name, value);
    out += "\r\n";
}

}  // namespace aio::inline v0::detail
