// A delimiter is a line break, two hyphens and the boundary, and then either two hyphens, or white space and a line
// break; what only begins like one is data. It may come in any pieces, so bytes that may be the begin of one are kept
// back. They are at most a delimiter long, so that the search begins anew over few bytes, and the work is linear in the
// body, however it is cut. The begin of the body counts as a line break.

#include "http/app/multipart_parser.hpp"

#include "http/access.hpp"
#include "http/app/media_type.hpp"

#include <algorithm>

namespace aio::inline v0::detail {

namespace {

constexpr std::size_t most_padding = 64;  // white space between a boundary and its line break

[[noreturn]] void refuse(const char* why) {
    throw http::refusal(400, std::string("the multipart body is malformed: ") + why);
}

bool is_boundary(std::string_view text) noexcept {
    constexpr std::string_view others = "'()+_,-./:=? ";
    if (text.empty() || text.size() > 70 || text.ends_with(' ')) return false;
    return std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            others.find(c) != others.npos;
    });
}

}  // namespace

std::string multipart_boundary(std::string_view content_type) {
    if (!is_media_type(content_type, "multipart/form-data"))
        throw http::refusal(415, "the body has to be multipart/form-data");
    const std::optional<value_with_parameters> parsed = parse_with_parameters(content_type);
    const std::string* boundary = parsed ? parsed->find("boundary") : nullptr;
    if (!boundary || !is_boundary(*boundary))
        throw http::refusal(400, "the Content-Type of the multipart body has no good boundary");
    return *boundary;
}

multipart_parser::multipart_parser(const std::string& boundary, std::size_t max_header_size)
    : delimiter_("\r\n--" + boundary), max_header_size_(max_header_size), buffer_("\r\n") {}

void multipart_parser::feed(std::string_view piece) {
    if (state_ == state::end) return;
    buffer_.erase(0, at_);
    scanned_ -= std::min(scanned_, at_);
    at_ = 0;
    data_ = {};
    buffer_.append(piece);
}

// Gives what stands at `at`, where the delimiter's text stands.
multipart_parser::delimiter multipart_parser::look_behind(std::size_t at) const noexcept {
    using kind = delimiter::kind;
    const std::size_t behind = at + delimiter_.size();
    const std::string_view rest = std::string_view(buffer_).substr(behind);
    if (rest.starts_with("--")) return {kind::last, at, behind + 2};
    if (rest.empty() || rest == "-") return {kind::partial, at, behind};
    const std::size_t padding = std::min(rest.find_first_not_of(" \t"), rest.size());
    if (padding > most_padding) return {};
    const std::string_view ending = rest.substr(padding);
    if (ending.starts_with("\r\n")) return {kind::next, at, behind + padding + 2};
    if (ending.empty() || ending == "\r") return {kind::partial, at, behind};
    return {};
}

multipart_parser::delimiter multipart_parser::find_delimiter() const noexcept {
    const std::string_view all = buffer_;
    for (std::size_t at = all.find(delimiter_, at_); at != all.npos; at = all.find(delimiter_, at + 1)) {
        const delimiter d = look_behind(at);
        if (d.what != delimiter::kind::none) return d;
    }
    const std::size_t tail = std::min(all.size() - at_, delimiter_.size() - 1);
    for (std::size_t at = all.find('\r', all.size() - tail); at != all.npos; at = all.find('\r', at + 1)) {
        if (std::string_view(delimiter_).starts_with(all.substr(at))) return {delimiter::kind::none, at, at};
    }
    return {delimiter::kind::none, all.size(), all.size()};
}

multipart_parser::event multipart_parser::want_more() const {
    if (finished_) refuse("it ends before its last boundary");
    return event::need_more;
}

void multipart_parser::go_to(const delimiter& d) noexcept {
    at_ = d.end;
    scanned_ = at_;
    state_ = d.what == delimiter::kind::last ? state::end : state::header;
}

multipart_parser::event multipart_parser::next_of_preamble() {
    const delimiter d = find_delimiter();
    at_ = d.at;
    if (d.what == delimiter::kind::none || d.what == delimiter::kind::partial) return want_more();
    go_to(d);
    return next();
}

multipart_parser::event multipart_parser::next_of_header() {
    const std::string_view all = buffer_;
    if (all.substr(at_).starts_with("\r\n")) refuse("a part has no header");
    const std::size_t from = std::max(at_, scanned_ - std::min<std::size_t>(scanned_, 3));
    const std::size_t end = all.find("\r\n\r\n", from);
    scanned_ = all.size();
    const std::size_t size = (end == all.npos ? all.size() : end) - at_;
    if (size > max_header_size_) throw http::refusal(413, "a part of the multipart body has a header that is too long");
    if (end == all.npos) return want_more();
    read_header(all.substr(at_, size));
    at_ = end + 4;
    state_ = state::body;
    return event::part;
}

multipart_parser::event multipart_parser::next_of_body() {
    const delimiter d = find_delimiter();
    if (d.at > at_) {
        data_ = std::string_view(buffer_).substr(at_, d.at - at_);
        at_ = d.at;
        return event::data;
    }
    if (d.what == delimiter::kind::none || d.what == delimiter::kind::partial) return want_more();
    go_to(d);
    return event::part_end;
}

multipart_parser::event multipart_parser::next() {
    data_ = {};
    switch (state_) {
        case state::preamble: return next_of_preamble();
        case state::header: return next_of_header();
        case state::body: return next_of_body();
        case state::end: break;
    }
    return event::end;
}

void multipart_parser::read_header(std::string_view lines) {
    headers_ = {};
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find("\r\n"));
        lines.remove_prefix(std::min(line.size() + 2, lines.size()));
        const std::size_t colon = line.find(':');
        if (colon == line.npos) refuse("a line of a part's header has no colon");
        try {
            headers_.add(line.substr(0, colon), line.substr(colon + 1));
        } catch (const std::invalid_argument&) { refuse("a part has a header that no message may have"); }
    }
    read_disposition();
    const std::string& coding = headers_["Content-Transfer-Encoding"];
    const bool plain = coding.empty() || equal_ignoring_case(coding, "binary") || equal_ignoring_case(coding, "8bit") ||
        equal_ignoring_case(coding, "7bit");
    if (!plain) refuse("a part has a Content-Transfer-Encoding, which forms have no more");
}

void multipart_parser::read_disposition() {
    if (headers_.get_all("Content-Disposition").size() != 1) refuse("a part has not one Content-Disposition");
    std::optional<value_with_parameters> parsed = parse_with_parameters(headers_["Content-Disposition"]);
    if (!parsed) refuse("a part has a malformed Content-Disposition");
    const std::string* name = parsed->value == "form-data" ? parsed->find("name") : nullptr;
    if (!name) refuse("a part has no name");
    name_ = *name;
    filename_.reset();
    if (const std::string* plain = parsed->find("filename")) filename_ = *plain;
    if (const std::string* extended = parsed->find("filename*")) {
        std::optional<std::string> decoded = decode_extended_value(*extended);
        if (!decoded) refuse("a part has a file name that is not in UTF-8");
        filename_ = std::move(decoded);
    }
}

}  // namespace aio::inline v0::detail
