// Making a request of what the caller says. The library alone says how a message ends and what becomes of its
// connection: a wrong header there makes two requests of one, or lets a server wait for ever.

#include "http/access.hpp"
#include "http/client/transfer.hpp"
#include "http/target.hpp"

#include <charconv>
#include <new>
#include <stdexcept>

namespace aio::inline v0::detail {

constexpr std::size_t default_max_body_size = std::size_t(1) << 30;

bool is_idempotent(std::string_view method) noexcept {
    for (const char* known : {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"}) {
        if (method == known) return true;
    }
    return false;
}

namespace {

[[noreturn]] void refuse_header(std::string_view name, const char* why) {
    throw std::invalid_argument("the header " + std::string(name) + " " + why);
}

// Reads a Connection header. "close" is kept apart from the other fields, because libcurl has to be told of it, too.
void take_connection(curl_transfer& t, std::string_view name, std::string_view value) {
    for_each_element(value, [&](std::string_view option) {
        if (equal_ignoring_case(option, "close")) {
            t.close_connection = true;
        } else if (!equal_ignoring_case(option, "keep-alive")) {
            refuse_header(name, "may say \"close\" or \"keep-alive\"");
        }
    });
}

void take_length(curl_transfer& t, std::string_view name, std::string_view value) {
    if (t.upload) {
        std::uint64_t length = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
        if (error != std::errc() || end != value.data() + value.size() || length > std::uint64_t(INT64_MAX))
            refuse_header(name, "is no length");
        t.upload->length = length;
    } else if (value != std::to_string(t.body.size())) {
        refuse_header(name, "is not the length of the body");
    }
}

void check_field(const curl_transfer& t, std::string_view name, std::string_view value) {
    for (const char* ours :
        {"Transfer-Encoding", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection", "HTTP2-Settings"}) {
        if (equal_ignoring_case(name, ours)) refuse_header(name, "is the library's to send");
    }
    if (equal_ignoring_case(name, "TE") && !equal_ignoring_case(value, "trailers")) {
        refuse_header(name, "may say \"trailers\"");
    }
    if (equal_ignoring_case(name, "Expect") && !equal_ignoring_case(value, "100-continue")) {
        refuse_header(name, "may say \"100-continue\"");
    }
    if (equal_ignoring_case(name, "Host")) {
        if (t.given.contains("Host")) refuse_header(name, "is given twice");
        if (!is_authority(value)) refuse_header(name, "is no host");
    }
}

void take_header(curl_transfer& t, std::string_view name, std::string_view value) {
    if (equal_ignoring_case(name, "Content-Length")) {  // libcurl sends it
        take_length(t, name, value);
    } else if (equal_ignoring_case(name, "Connection")) {
        take_connection(t, name, value);
    } else {
        check_field(t, name, value);
        t.given.add(name, value);
    }
}

void take_headers(curl_transfer& t, const http::request_options& o, std::string_view content_type) {
    if (o.headers.get()) {
        for (const auto& [name, value] : *o.headers.get()) take_header(t, name, value);
    }
    const session_settings& s = t.multi->settings;
    if (!o.auth.empty()) {
        t.given.set("Authorization", o.auth);
    } else if (!s.auth.empty() && !t.given.contains("Authorization") &&
        (s.base_origin.empty() || s.base_origin == t.target->origin)) {
        t.given.add("Authorization", s.auth);
    }
    for (const auto& [name, value] : s.fields) {
        const bool given = o.headers.get() && o.headers.get()->contains(name);
        if (!given) take_header(t, name, value);
    }
    if (!content_type.empty() && !t.given.contains("Content-Type")) t.given.add("Content-Type", content_type);
    t.asks_for_encodings = t.given.contains("Accept-Encoding");
}

// The URL as it is asked for: below the session's base_url, unless it is whole, and with the parameters.
std::string whole_url(const session_settings& s, std::string url, const http::params* params) {
    if (!s.base_url.empty() && url.find("://") == url.npos) {
        url.erase(0, url.find_first_not_of('/'));  // all of it, if there is nothing else
        url = s.base_url + url;
    }
    if (!params || params->empty()) return url;
    const std::size_t fragment = url.find('#');
    if (fragment != url.npos) url.resize(fragment);
    url += url.find('?') == url.npos ? '?' : '&';
    return url + params->to_string();
}

phase_limits limits_of(const session_settings& s, const http::request_options& o) noexcept {
    const auto or_else = [](delay own, delay of_session) { return own.has_value() ? own : of_session; };
    return {or_else(o.connect_timeout, s.connect_timeout), or_else(o.tls_timeout, s.tls_timeout),
        or_else(o.first_byte_timeout, s.first_byte_timeout), or_else(o.read_timeout, s.read_timeout)};
}

void append(curl_slist*& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (!longer) throw std::bad_alloc();
    list = longer;
}

}  // namespace

void add_fields(curl_slist*& list, const http::headers& given, const session_settings& s, bool decompress) {
    if (!s.user_agent.empty() && !given.contains("User-Agent")) append(list, "User-Agent: " + s.user_agent);
    if (decompress && !given.contains("Accept-Encoding"))
        append(list, "Accept-Encoding: " + std::string(http_known_codings));
}

bool sends_body(const curl_transfer& t) noexcept {
    if (t.method == "HEAD") return t.upload != nullptr;
    return t.upload || !t.body.empty() || t.method == "POST" || t.method == "PUT" || t.method == "PATCH";
}

void set_fields(curl_transfer& t, bool cookies) {
    curl_slist_free_all(std::exchange(t.fields, nullptr));
    const bool has_body = sends_body(t);
    if (t.given.empty() && !t.close_connection && !has_body && t.decompress) return;
    for (const auto& [name, value] : t.given) {
        if (cookies && equal_ignoring_case(name, "Cookie")) continue;  // libcurl sends it together with its own
        append(t.fields, value.empty() ? name + ";" : name + ": " + value);
    }
    add_fields(t.fields, t.given, t.multi->settings, t.decompress);
    if (t.close_connection) append(t.fields, "Connection: close");
    if (!has_body) return;
    // These turn off two habits of libcurl: to call a body a form, and to wait a second for a 100 before a large one.
    if (!t.given.contains("Content-Type")) append(t.fields, "Content-Type:");
    if (!t.given.contains("Expect")) append(t.fields, "Expect:");
}

curl_transfer_ptr make_transfer(
    const std::shared_ptr<curl_multi>& multi, request_parts parts, const http::request_options& options) {
    if (!multi) throw_logic_error("this http::session was moved from");
    curl_transfer_ptr made(new curl_transfer);
    curl_transfer& t = *made;
    t.multi = multi;
    const session_settings& s = multi->settings;
    t.method = std::move(parts.method);
    t.body = std::move(parts.body);
    t.streaming = parts.streaming;
    if (parts.uploading) {
        t.upload = std::make_shared<curl_upload>();
        t.upload->transfer = &t;
    }
    t.timeout = options.timeout.has_value() ? options.timeout : s.timeout;
    t.limits = limits_of(s, options);
    t.version = options.http_version ? options.http_version : s.http_version;
    t.follow_redirects = options.follow_redirects;
    t.max_redirects = options.max_redirects;
    t.max_body_size = options.max_body_size.value_or(parts.streaming ? 0 : default_max_body_size);
    t.decompress = options.decompress;
    try {
        if (!is_http_token(t.method)) throw std::invalid_argument("\"" + t.method + "\" is no HTTP method");
        if (t.method == "CONNECT")
            throw std::invalid_argument("CONNECT asks for a tunnel, which an http::session does not make");
        t.target = multi->urls.check(t.method, whole_url(s, std::move(parts.url), options.params.get()));
        try {
            take_headers(t, options, parts.content_type);
        } catch (const std::invalid_argument& e) { throw std::invalid_argument(t.what() + ": " + e.what()); }
    } catch (...) {
        t.error = std::current_exception();
        t.ended = true;
    }
    return made;
}

}  // namespace aio::inline v0::detail
