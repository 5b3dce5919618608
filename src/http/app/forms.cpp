// Forms as they travel: the encoding of the URL Standard for http::form, RFC 7578 with the escapes of the HTML Standard
// for http::multipart.

#include <aio/http/message.hpp>

#include "http/access.hpp"
#include "http/app/media_type.hpp"
#include "http/target.hpp"

#include <aio/file.hpp>

#include <algorithm>
#include <stdexcept>

namespace aio::inline v0::http {

namespace {

// A space is a '+', and nothing else that is plain here is one.
void append_urlencoded(std::string& out, std::string_view text) {
    const std::size_t begin = out.size();
    detail::percent_encode(text, out, " *-._");
    std::replace(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end(), ' ', '+');
}

// In names the HTML Standard encodes what would end them, and nothing else.
std::string in_quotes(std::string_view name) {
    std::string out = "\"";
    for (const char c : name) {
        switch (c) {
            case '"': out += "%22"; break;
            case '\r': out += "%0D"; break;
            case '\n': out += "%0A"; break;
            default: out += c;
        }
    }
    return out + '"';
}

std::string header_of(const std::string& boundary, const multipart::part& p) {
    std::string out = "--" + boundary + "\r\nContent-Disposition: form-data; name=" + in_quotes(p.name);
    if (p.filename) out.append("; filename=").append(in_quotes(*p.filename));
    if (!p.content_type.empty()) out.append("\r\nContent-Type: ").append(p.content_type);
    return out + "\r\n\r\n";
}

async_generator<std::string> pieces_of(std::string boundary, std::vector<multipart::part> parts) {
    constexpr std::size_t piece_size = 256 * 1024;
    for (multipart::part& p : parts) {
        std::string first = header_of(boundary, p) + p.body;
        p.body = {};
        co_yield std::move(first);
        if (!p.path.empty()) {
            aio::file source = co_await aio::open_file(p.path);
            for (;;) {
                std::string piece = co_await source.read(piece_size);
                if (piece.empty()) break;
                co_yield std::move(piece);
            }
            co_await source.aclose();
        }
        std::string end = "\r\n";
        co_yield std::move(end);
    }
    std::string last = "--" + boundary + "--\r\n";
    co_yield std::move(last);
}

}  // namespace

std::string form::body() const {
    std::string out;
    for (const auto& [name, value] : *this) {
        if (!out.empty()) out += '&';
        append_urlencoded(out, name);
        out += '=';
        append_urlencoded(out, value);
    }
    return out;
}

form request::form(form_options options) const {
    if (detail::http_access::unread(*this))
        throw std::logic_error(
            "http::request::form: the body of an unbuffered handler has not been read: read stream()");
    http::form all;
    const std::string& type = headers_["Content-Type"];
    if (body_.empty() && type.empty()) return all;
    if (!detail::is_media_type(type, http::form::content_type()))
        throw refusal(415, "the body has to be " + http::form::content_type());
    std::string_view left = body_;
    std::string name, value;
    while (!left.empty()) {
        const std::string_view pair = left.substr(0, left.find('&'));
        left.remove_prefix(std::min(pair.size() + 1, left.size()));
        if (pair.empty()) continue;
        if (all.size() == options.max_fields) throw refusal(413, "the form has too many fields");
        const std::size_t equals = std::min(pair.find('='), pair.size());
        detail::percent_decode(pair.substr(0, equals), true, name);
        detail::percent_decode(pair.substr(std::min(equals + 1, pair.size())), true, value);
        all.add(name, value);
    }
    return all;
}

multipart::multipart() : boundary_(detail::random_boundary()) {}

void multipart::add(std::string name, std::string value) {
    part p;
    p.name = std::move(name);
    p.body = std::move(value);
    parts_.push_back(std::move(p));
}

void multipart::add_file(std::string name, std::string filename, std::string content, std::string content_type) {
    detail::check_field("Content-Type", content_type);
    part p;
    p.name = std::move(name);
    p.filename = std::move(filename);
    p.content_type = std::move(content_type);
    p.body = std::move(content);
    parts_.push_back(std::move(p));
}

void multipart::add_path(std::string name, std::string path, std::string content_type) {
    add_file(std::move(name), path.substr(path.rfind('/') + 1), {}, std::move(content_type));
    parts_.back().path = std::move(path);
}

std::optional<std::string> multipart::get(std::string_view name) const {
    for (const part& p : parts_) {
        if (!p.filename && p.name == name) return p.body;
    }
    return std::nullopt;
}

const multipart::part* multipart::file(std::string_view name) const noexcept {
    for (const part& p : parts_) {
        if (p.filename && p.name == name) return &p;
    }
    return nullptr;
}

std::string multipart::content_type() const { return "multipart/form-data; boundary=" + boundary_; }

bool multipart::in_memory() const noexcept {
    return std::all_of(parts_.begin(), parts_.end(), [](const part& p) { return p.path.empty(); });
}

std::string multipart::body() const {
    if (!in_memory()) throw std::logic_error("http::multipart::body: a file of add_path() is only in stream()");
    std::string out;
    for (const part& p : parts_) out.append(header_of(boundary_, p)).append(p.body).append("\r\n");
    return out.append("--").append(boundary_).append("--\r\n");
}

async_generator<std::string> multipart::stream() const { return pieces_of(boundary_, parts_); }

}  // namespace aio::inline v0::http
