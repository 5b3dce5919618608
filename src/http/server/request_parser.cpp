// The reading side of the HTTP server: connection.cpp and request_body.cpp feed it what a connection brings.
//
// Boost.Beast's parser reads the grammar: request line, fields, Content-Length, Transfer-Encoding and chunks. This file
// does what Beast does not do:
//
// * Beast asks for more as long as a line or a section is incomplete. Here lines are cut out and measured before Beast
//   sees them, so each line has a limit, and it makes no difference in which pieces the bytes come. Each piece that
//   Beast gets is complete: if Beast wants more, the request is bad. A line feed without a carriage return is refused
//   here at once, where Beast would wait for the end of the line.
// * Beast joins folded lines, accepts a repeated Content-Length, and reads no HTTP/1.2. Here another major version is
//   refused with a status of its own, 505.
// * Beast does not interpret Host, codings besides chunked and Expect, and reads several Connection fields otherwise
//   than we do: see keep_alive().
// * target.cpp reads the targets, because Beast takes any visible characters. No library of Debian 12 reads the four
//   forms of RFC 9112, 3.2: Boost.URL came with Boost 1.81, and libcurl's URLs are those that people type.
// * A body with a Content-Length needs no grammar, so its bytes are counted here, and a piece of one can be handed on
//   without a copy. The limits of bodies are kept here, too, because they depend on the handler, whom Beast would have
//   to ask in the middle of a call.
// * Beast takes trailers for more fields of the header, and refuses a Content-Length there. A second parser reads them
//   here, and refuses only trailers that contradict each other.

#include "http/server/request_parser.hpp"

#include "http/access.hpp"
#include "http/target.hpp"

#include <ostream>  // Boost 1.74 forgets it

#include <boost/beast/http/basic_parser.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

namespace aio::inline v0::detail {

namespace beast = boost::beast::http;

namespace {

using boost::beast::error_code;

// The first line of a chunk has the chunk's size and perhaps extensions, which nobody uses.
constexpr std::size_t most_chunk_line_bytes = 4096;
// How many bytes the first lines of chunks may have beyond those that their data pays for, so that tiny chunks with
// long extensions do not keep a server busy: 16 bytes of each line are free, and each byte of data pays for one more.
constexpr std::size_t most_chunk_overhead = 16 * 1024;

constexpr std::string_view line_end = "\r\n";

bool is_decimal(char c) noexcept { return c >= '0' && c <= '9'; }
/// True for the characters that may not stand in a line; a tab may.
bool is_control(char c) noexcept { return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f'; }

/// Where the first of them is. The first loop has no exit, so the compiler makes vectors of it.
std::size_t find_control(std::string_view text) noexcept {
    bool any = false;
    for (const char c : text) any |= is_control(c);
    if (!any) return text.npos;
    std::size_t at = 0;
    while (!is_control(text[at])) ++at;
    return at;
}

std::string_view view(boost::beast::string_view text) noexcept { return {text.data(), text.size()}; }

/// Beast's parser; it only keeps the fields.
class fields_reader : public beast::basic_parser<true> {
public:
    fields_reader() {
        header_limit(UINT32_MAX);  // the lines have been measured
        body_limit(UINT64_MAX);
    }

    http::headers fields;

protected:
    void on_field_impl(
        beast::field, boost::beast::string_view name, boost::beast::string_view value, error_code&) override {
        http_access::append(fields, view(name), view(value));  // Beast has checked and trimmed them
    }
    void on_request_impl(beast::verb, boost::beast::string_view, boost::beast::string_view, int, error_code&) override {
    }
    void on_response_impl(int, boost::beast::string_view, int, error_code&) override {}
    void on_header_impl(error_code&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
    std::size_t on_body_impl(boost::beast::string_view body, error_code&) override { return body.size(); }
    void on_chunk_header_impl(std::uint64_t, boost::beast::string_view, error_code&) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, boost::beast::string_view body, error_code&) override {
        return body.size();
    }
    void on_finish_impl(error_code&) override {}
};

}  // namespace

/// Reads one request. A state names what comes next: a line, or data of the body.
class http_request_parser::reader final : public fields_reader {
public:
    reader(std::size_t most_header_bytes, std::uint64_t most_body, std::size_t most_fields)
        : most_body_bytes(most_body),
          most_header_bytes_(most_header_bytes),
          most_fields_(most_fields),
          line_bytes_left_(most_header_bytes) {}

    std::size_t feed(std::string_view data, bool head_only);
    void bad(int status, std::string reason);

    // The order matters: from body on the header is done.
    enum class state : std::uint8_t { start, fields, body, chunk_size, chunk_data, chunk_end, trailers, end };

    state at = state::start;
    bool begun = false;
    bool http_1_0 = false;
    std::string method;
    std::string target;
    http::headers trailers;
    std::string body;             // what has come of it, and was not taken
    std::uint64_t body_left = 0;  // of a body with a Content-Length, or of a chunk: what has not come
    std::uint64_t most_body_bytes;
    int bad_status = 0;
    std::string bad_reason;

private:
    std::optional<std::string_view> line(std::string_view data);
    bool of_a_chunk() const noexcept { return at == state::chunk_size || at == state::chunk_end; }
    std::size_t most_line_bytes() const noexcept;
    void line_too_long();
    void take_line(std::string_view text);
    void take_request_line(std::string_view text);
    void take_chunk_size(std::string_view text);
    void take_trailers();
    void check_header();
    std::size_t give(beast::basic_parser<true>& to, std::string_view data);
    void count_body(std::uint64_t more);

    void on_field_impl(
        beast::field field, boost::beast::string_view name, boost::beast::string_view value, error_code& code) override;
    void on_request_impl(beast::verb, boost::beast::string_view method_text, boost::beast::string_view target_text,
        int version, error_code& code) override;
    void on_header_impl(error_code& code) override;
    void on_chunk_header_impl(std::uint64_t size, boost::beast::string_view extensions, error_code& code) override;
    std::size_t on_chunk_body_impl(std::uint64_t remaining, boost::beast::string_view piece, error_code& code) override;
    void on_finish_impl(error_code&) override { at = state::end; }

    std::size_t most_header_bytes_;
    std::size_t most_fields_;
    bool length_checked_ = false;   // of a body with a Content-Length
    std::uint64_t body_bytes_ = 0;  // that have been announced so far
    std::size_t line_bytes_left_;   // what the header section, or the trailer section, may still have
    std::size_t searched_ = 0;      // how many bytes of an incomplete line have been looked at
    std::size_t chunk_overhead_ = 0;
    std::string pending_;  // lines for Beast, which gets a section as a whole
};

void http_request_parser::reader::bad(int status, std::string reason) {
    if (bad_status != 0) return;
    bad_status = status;
    bad_reason = std::move(reason);
}

std::size_t http_request_parser::reader::feed(std::string_view data, bool head_only) {
    std::size_t taken = 0;
    while (bad_status == 0 && at != state::end && !(head_only && at >= state::body)) {
        const std::string_view rest = data.substr(taken);
        if (at == state::body) {
            if (!std::exchange(length_checked_, true)) count_body(body_left);
            if (rest.empty() || bad_status != 0) break;
            const std::string_view piece = rest.substr(0, body_left);
            body += piece;
            taken += piece.size();
            body_left -= piece.size();
            if (body_left == 0) at = state::end;
            continue;
        }
        if (at == state::chunk_data) {
            if (rest.empty()) break;
            taken += give(*this, rest);
            continue;
        }
        const std::optional<std::string_view> text = line(rest);
        if (!text) break;
        taken += text->size() + line_end.size();
        take_line(*text);
    }
    return taken;
}

void http_request_parser::reader::count_body(std::uint64_t more) {
    if (more > most_body_bytes - std::min(most_body_bytes, body_bytes_)) {
        return bad(413, "the body is longer than " + std::to_string(most_body_bytes) + " bytes");
    }
    body_bytes_ += more;
}

// Gives the line that data begins with, without its end; nothing if the line is incomplete or bad. The next call with
// more data goes on where this one has stopped, so a line that comes byte by byte is looked through only once.
std::optional<std::string_view> http_request_parser::reader::line(std::string_view data) {
    if (at == state::start && !data.empty() && !line_end.starts_with(data.substr(0, line_end.size()))) begun = true;
    const std::size_t most = most_line_bytes();
    const std::size_t end = std::min(data.size(), most);
    const std::size_t stop = std::min(data.substr(0, end).find('\r', searched_), end);
    const std::string_view looked_at = data.substr(searched_, stop - searched_);
    if (const std::size_t at_control = find_control(looked_at); at_control != looked_at.npos) {
        bad(400, looked_at[at_control] == '\n' ? "a line feed without a carriage return" : "a control character");
        return std::nullopt;
    }
    searched_ = stop;
    if (searched_ >= end) {
        if (data.size() >= most) line_too_long();
        return std::nullopt;
    }
    if (searched_ + 1 == data.size()) return std::nullopt;  // the line feed may be on its way
    if (data[searched_ + 1] != '\n') {
        bad(400, "a carriage return without a line feed");
        return std::nullopt;
    }
    if (searched_ + line_end.size() > most) {
        line_too_long();
        return std::nullopt;
    }
    if (!of_a_chunk()) line_bytes_left_ -= searched_ + line_end.size();
    return data.substr(0, std::exchange(searched_, 0));
}

// How long the next line may be, with its end.
std::size_t http_request_parser::reader::most_line_bytes() const noexcept {
    if (at == state::chunk_size) return most_chunk_line_bytes;
    if (at == state::chunk_end) return line_end.size();
    return line_bytes_left_;
}

void http_request_parser::reader::line_too_long() {
    if (at == state::chunk_end) return bad(400, "a chunk is longer than it says");
    if (at == state::chunk_size) {
        return bad(400, "the first line of a chunk is longer than " + std::to_string(most_chunk_line_bytes) + " bytes");
    }
    bad(431,
        std::string(at == state::trailers ? "the trailer section" : "the header") + " is longer than " +
            std::to_string(most_header_bytes_) + " bytes");
}

void http_request_parser::reader::take_line(std::string_view text) {
    switch (at) {
        case state::start:
            if (!text.empty())
                take_request_line(text);  // empty lines before a request are to be ignored (RFC 9112, 2.2)
            return;
        case state::fields:
        case state::trailers:
            if (text.starts_with(' ') || text.starts_with('\t')) return bad(400, "a line of the header is folded");
            pending_.append(text).append(line_end);
            if (!text.empty()) return;
            if (at == state::trailers) return take_trailers();
            give(*this, pending_);
            pending_.clear();
            return;
        case state::chunk_end:
            pending_ = line_end;  // Beast reads this line end together with the next size
            at = state::chunk_size;
            return;
        case state::chunk_size: return take_chunk_size(text);
        default: return;
    }
}

// Gives complete lines, or a piece of a body, to Beast. Gives back how many bytes Beast has taken.
std::size_t http_request_parser::reader::give(beast::basic_parser<true>& to, std::string_view data) {
    error_code code;
    const std::size_t taken = to.put(boost::asio::const_buffer(data.data(), data.size()), code);
    if (code == beast::error::need_more) {
        // If Beast has taken all, it only asks for what comes next: a request line is the beginning of a header.
        if (taken < data.size()) bad(400, "a line ends too early");
    } else if (code) {
        // Without effect if a check of ours has said why already.
        bad(code == beast::error::body_limit ? 413 : 400, code.message());
    }
    return taken;
}

void http_request_parser::reader::take_request_line(std::string_view text) {
    pending_.assign(text);
    constexpr std::string_view name = " HTTP/";
    const std::size_t version = text.rfind(' ');
    if (version != text.npos && text.size() == version + name.size() + 3 && text.substr(version).starts_with(name)) {
        const char major = text[version + name.size()];
        const char minor = text.back();
        if (text[text.size() - 2] == '.' && is_decimal(major) && is_decimal(minor)) {
            if (major != '1') return bad(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
            if (minor != '0') pending_.back() = '1';  // a later HTTP/1.x is read as HTTP/1.1 (RFC 9110, 2.5)
        }
    }
    pending_.append(line_end);
    at = state::fields;
    give(*this, pending_);
    pending_.clear();
}

void http_request_parser::reader::on_request_impl(beast::verb, boost::beast::string_view method_text,
    boost::beast::string_view target_text, int version, error_code& code) {
    http_1_0 = version == 10;
    method = view(method_text);
    target = view(target_text);
    if (!detail::parse_target(method, target)) {
        bad(400, "this is no target of a request");
    } else if (method == "CONNECT") {
        bad(501, "this server is no proxy");
    }
    if (bad_status != 0) code = beast::error::bad_target;
}

void http_request_parser::reader::on_field_impl(
    beast::field field, boost::beast::string_view name, boost::beast::string_view value, error_code& code) {
    if (fields.size() >= most_fields_) {
        bad(431, "the header has more than " + std::to_string(most_fields_) + " fields");
        code = beast::error::header_limit;
        return;
    }
    fields_reader::on_field_impl(field, name, value, code);
}

void http_request_parser::reader::on_header_impl(error_code& code) {
    check_header();
    if (bad_status != 0) code = beast::error::bad_value;
    at = chunked() ? state::chunk_size : state::body;  // without a body on_finish_impl follows, which sets the end
    if (!chunked()) body_left = content_length().value_or(0);
}

void http_request_parser::reader::check_header() {
    const auto hosts = fields.get_all("Host");
    if (hosts.size() > 1 || (hosts.empty() && !http_1_0)) return bad(400, "a request has one Host");
    if (!hosts.empty() && !hosts[0].empty() && !is_authority(hosts[0])) return bad(400, "Host is no host");

    const auto lengths = fields.get_all("Content-Length");
    if (lengths.size() > 1 || (!lengths.empty() && lengths[0].find(',') != std::string::npos)) {
        return bad(400, "more than one Content-Length");
    }
    const auto encodings = fields.get_all("Transfer-Encoding");
    if (encodings.empty()) return;
    if (http_1_0) return bad(400, "HTTP/1.0 knows no Transfer-Encoding");
    if (!lengths.empty())
        return bad(400, "both Content-Length and Transfer-Encoding");  // Beast refuses this only for chunked
    if (encodings.size() > 1 || !equal_ignoring_case(encodings[0], "chunked")) {
        std::string all;
        for (const std::string& e : encodings) all.append(all.empty() ? "" : ",").append(e);
        const std::size_t comma = all.rfind(',');
        const std::string_view before = std::string_view(all).substr(0, comma == all.npos ? 0 : comma);
        // With chunked twice, or before another coding, the end of the body cannot be known (RFC 9112, 6.3).
        if (list_has(before, "chunked")) return bad(400, "chunked is not the last Transfer-Encoding");
        return bad(501, "the only Transfer-Encoding that is known here is chunked");
    }
}

void http_request_parser::reader::take_chunk_size(std::string_view text) {
    pending_.append(text).append(line_end);
    const std::size_t size = std::min(text.find_first_not_of('0'), text.size());
    constexpr std::string_view digits = "123456789abcdefABCDEF";
    const bool last = size > 0 && (size == text.size() || digits.find(text[size]) == digits.npos);
    if (last) pending_.append(line_end);  // for Beast the message ends here, without trailers
    give(*this, pending_);
    pending_.clear();
    if (!last || bad_status != 0) return;
    at = state::trailers;
    line_bytes_left_ = most_header_bytes_;
}

void http_request_parser::reader::on_chunk_header_impl(
    std::uint64_t size, boost::beast::string_view, error_code& code) {
    const std::size_t cost = pending_.size();
    chunk_overhead_ += cost > 16 ? cost - 16 : 0;
    if (chunk_overhead_ > most_chunk_overhead) {
        bad(400, "the extensions of the chunks are longer than what they bring");
        code = beast::error::bad_chunk_extension;
        return;
    }
    chunk_overhead_ -= static_cast<std::size_t>(std::min<std::uint64_t>(chunk_overhead_, size));
    count_body(size);
    if (bad_status != 0) code = beast::error::body_limit;
    body_left = size;
    at = state::chunk_data;
}

std::size_t http_request_parser::reader::on_chunk_body_impl(
    std::uint64_t remaining, boost::beast::string_view piece, error_code&) {
    body += view(piece);
    body_left = remaining - piece.size();
    if (piece.size() == remaining) at = state::chunk_end;
    return piece.size();
}

void http_request_parser::reader::take_trailers() {
    at = state::end;
    fields_reader of_trailers;
    of_trailers.skip(true);  // no body follows, whatever the trailers say
    give(of_trailers, "GET / HTTP/1.1\r\n" + pending_);
    if (of_trailers.fields.size() > most_fields_)
        bad(431, "the trailer section has more than " + std::to_string(most_fields_) + " fields");
    trailers = std::move(of_trailers.fields);
}

http_request_parser::http_request_parser(
    std::size_t most_header_bytes, std::size_t most_body_bytes, std::size_t most_fields)
    : most_header_bytes_(most_header_bytes),
      most_body_bytes_(most_body_bytes),
      most_fields_(most_fields),
      reader_(std::make_unique<reader>(most_header_bytes, most_body_bytes, most_fields)) {}

http_request_parser::~http_request_parser() = default;

std::size_t http_request_parser::feed(std::string_view data) { return reader_->feed(data, false); }
std::size_t http_request_parser::feed_head(std::string_view data) { return reader_->feed(data, true); }
bool http_request_parser::begun() const noexcept { return reader_->begun; }
bool http_request_parser::header_done() const noexcept { return reader_->at >= reader::state::body; }
bool http_request_parser::complete() const noexcept {
    return reader_->bad_status == 0 && reader_->at == reader::state::end;
}
int http_request_parser::bad_status() const noexcept { return reader_->bad_status; }
const std::string& http_request_parser::bad_reason() const noexcept { return reader_->bad_reason; }
void http_request_parser::refuse(int status, std::string why) { reader_->bad(status, std::move(why)); }
void http_request_parser::limit_body(std::uint64_t most_bytes) noexcept { reader_->most_body_bytes = most_bytes; }
std::uint64_t http_request_parser::body_bytes_left() const noexcept { return reader_->body_left; }
bool http_request_parser::is_chunked() const noexcept { return reader_->chunked(); }
bool http_request_parser::is_http_1_0() const noexcept { return reader_->http_1_0; }

bool http_request_parser::expects_continue() const noexcept {
    return !reader_->http_1_0 && equal_ignoring_case(reader_->fields["Expect"], "100-continue");
}

// This is not Beast's keep_alive(), which also reads Proxy-Connection, and lets keep-alive overrule close in HTTP/1.0.
bool http_request_parser::keep_alive() const noexcept {
    bool kept = !reader_->http_1_0;
    for (const auto& [name, value] : reader_->fields) {
        if (!equal_ignoring_case(name, "Connection")) continue;
        if (list_has(value, "close")) return false;
        kept = kept || list_has(value, "keep-alive");
    }
    return kept;
}

http::request http_request_parser::take_head(std::string peer) {
    reader& read = *reader_;
    if (!read.target.starts_with('/')) {  // a host in the target overrules the Host field (RFC 9112, 3.2.2)
        const std::string_view authority = parse_target(read.method, read.target)->authority;
        if (!authority.empty()) read.fields.set("Host", authority);
    }
    http::request r(std::move(read.method), std::move(read.target), std::move(read.fields), {}, std::move(peer));
    if (read.http_1_0) http_access::set_version(r, http::version::v1_0);
    return r;
}

std::string http_request_parser::take_piece() noexcept { return std::exchange(reader_->body, {}); }

bool http_request_parser::pass_piece(std::size_t bytes) noexcept {
    reader& read = *reader_;
    if (read.at != reader::state::body || read.bad_status != 0 || !read.body.empty() || bytes > read.body_left)
        return false;
    read.body_left -= bytes;
    if (read.body_left == 0) read.at = reader::state::end;
    return true;
}

http::headers http_request_parser::take_trailers() noexcept { return std::move(reader_->trailers); }

void http_request_parser::next() noexcept {
    reader* const place = reader_.get();
    std::destroy_at(place);
    std::construct_at(place, most_header_bytes_, most_body_bytes_, most_fields_);  // allocates nothing
}

http::request http_request_parser::take(std::string peer) {
    http::request r = take_head(std::move(peer));
    http_access::body(r) = take_piece();
    http_access::trailers(r) = take_trailers();
    next();
    return r;
}

}  // namespace aio::inline v0::detail
