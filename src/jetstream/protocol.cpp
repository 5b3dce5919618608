// The text protocol of NATS. See protocol.hpp, and the page "Client Protocol" of NATS's documentation.

#include "jetstream/protocol.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace aio::inline v0::detail {
namespace {

constexpr std::size_t longest_line = std::size_t(4) * 1024 * 1024;
constexpr std::size_t largest_message = std::size_t(1) * 1024 * 1024 * 1024;

[[noreturn]] void malformed(const char* what) {
    throw std::runtime_error(std::string("jetstream: the server does not keep to the protocol: ") + what);
}

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() &&
        std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

/// Takes the first line off text, without its end.
std::string_view take_line(std::string_view& text) noexcept {
    const std::size_t end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    return line;
}

std::size_t number(std::string_view text) {
    std::size_t n = 0;
    const std::from_chars_result read = std::from_chars(text.data(), text.data() + text.size(), n);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size()) malformed("a number is none");
    return n;
}

bool begins(std::string_view line, std::string_view word) noexcept {
    return line.size() >= word.size() && same_name(line.substr(0, word.size()), word);
}

}  // namespace

nats_status status_of(const nats_incoming& m) noexcept {
    if (m.headers.size() < 12 || m.headers[8] != ' ') return {};
    std::string_view rest = m.headers;
    const std::string_view line = take_line(rest).substr(9);
    nats_status s;
    const std::from_chars_result read = std::from_chars(line.data(), line.data() + line.size(), s.code);
    s.text = trimmed(line.substr(static_cast<std::size_t>(read.ptr - line.data())));
    return s;
}

std::string_view header_in(std::string_view block, std::string_view name) noexcept {
    if (block.empty()) return {};
    take_line(block);
    while (!block.empty()) {
        const std::string_view line = take_line(block);
        const std::size_t colon = line.find(':');
        if (colon != std::string_view::npos && same_name(line.substr(0, colon), name)) {
            return trimmed(line.substr(colon + 1));
        }
    }
    return {};
}

jetstream::headers parse_headers(std::string_view block) {
    jetstream::headers all;
    if (block.empty()) return all;
    take_line(block);
    while (!block.empty()) {
        const std::string_view line = take_line(block);
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || colon == 0) continue;
        if (line.find_first_of("\r\n") != std::string_view::npos) continue;
        all.all_.emplace_back(line.substr(0, colon), trimmed(line.substr(colon + 1)));
    }
    return all;
}

std::string headers_block(const jetstream::headers* all) {
    if (!all || all->empty()) return {};
    std::string block = "NATS/1.0\r\n";
    for (const auto& [name, value] : *all) block.append(name).append(": ").append(value).append("\r\n");
    return block += "\r\n";
}

void keep_messages(std::string& out) noexcept {
    std::size_t kept = 0;
    for (std::size_t at = 0; at < out.size();) {
        const std::size_t line_end = out.find('\n', at) + 1;
        std::size_t size = line_end - at;
        if (out[at] == 'H' || out.compare(at, 4, "PUB ") == 0) {  // HPUB or PUB: its last word is the size of its body
            const char* const end = out.data() + line_end - 2;
            const char* digits = end;
            while (digits[-1] != ' ') --digits;
            std::size_t body = 0;
            std::from_chars(digits, end, body);
            size += body + 2;
            std::memmove(out.data() + kept, out.data() + at, size);
            kept += size;
        }
        at += size;
    }
    out.resize(kept);
}

std::span<std::byte> nats_parser::room() {
    const std::size_t used = end_ - begin_;
    if (begin_ > 0 && (used == 0 || buffer_.size() - end_ < buffer_.size() / 4 || wanted_ > buffer_.size() - begin_)) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, used);
        begin_ = 0;
        end_ = used;
    }
    if (buffer_.size() < std::max(wanted_, used + 4096)) buffer_.resize(std::max(wanted_ + 4096, buffer_.size() * 2));
    return std::as_writable_bytes(std::span(buffer_)).subspan(end_);
}

void nats_parser::parse(std::size_t n, handler& to) {
    end_ += n;
    while (parse_one(to)) {}
}

/// False if what is there is not complete.
bool nats_parser::parse_one(handler& to) {
    if (wanted_ > end_ - begin_) return false;
    wanted_ = 0;
    const std::string_view there(buffer_.data() + begin_, end_ - begin_);
    const std::size_t newline = there.find('\n', searched_);
    if (newline == std::string_view::npos) {
        searched_ = there.size();
        if (there.size() > longest_line) malformed("a line has no end");
        return false;
    }
    searched_ = 0;
    std::string_view line = there.substr(0, newline);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (begins(line, "MSG ") || begins(line, "HMSG ")) {
        parse_message(line, newline + 1, to);
        return wanted_ == 0;
    }
    begin_ += newline + 1;
    if (begins(line, "PING")) {
        to.on_ping();
    } else if (begins(line, "PONG")) {
        to.on_pong();
    } else if (begins(line, "INFO ")) {
        to.on_info(line.substr(5));
    } else if (begins(line, "-ERR")) {
        std::string_view text = trimmed(line.substr(4));
        if (text.size() >= 2 && text.front() == '\'' && text.back() == '\'') text = text.substr(1, text.size() - 2);
        to.on_error(text);
    } else if (!begins(line, "+OK")) {
        malformed("a line begins with an unknown word");
    }
    return true;
}

/// MSG subject sid [reply-to] size, HMSG subject sid [reply-to] size-of-headers size. If the rest is not there yet,
/// wanted_ is set, and nothing has happened.
void nats_parser::parse_message(std::string_view line, std::size_t line_size, handler& to) {
    const bool with_headers = lower(line.front()) == 'h';
    std::array<std::string_view, 6> words;
    std::size_t count = 0;
    for (std::string_view rest = line; !rest.empty();) {
        const std::size_t end = rest.find_first_of(" \t");
        const std::string_view word = rest.substr(0, end);
        if (!word.empty()) {
            if (count == words.size()) malformed("a message has too many words");
            words[count++] = word;
        }
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    const std::size_t least = with_headers ? 5 : 4;
    if (count < least || count > least + 1) malformed("a message has too few words, or too many");
    nats_incoming m;
    m.subject = words[1];
    m.sid = number(words[2]);
    if (count > least) m.reply_to = words[3];
    const std::size_t size = number(words[count - 1]);
    const std::size_t headers_size = with_headers ? number(words[count - 2]) : 0;
    if (size > largest_message || headers_size > size) malformed("a message has a size that cannot be");
    const std::size_t whole = line_size + size + 2;
    if (end_ - begin_ < whole) {
        wanted_ = whole;
        return;
    }
    const char* const body = buffer_.data() + begin_ + line_size;
    if (body[size] != '\r' || body[size + 1] != '\n') malformed("a message does not end where it has to");
    m.headers = std::string_view(body, headers_size);
    m.data = std::string_view(body + headers_size, size - headers_size);
    begin_ += whole;
    to.on_message(m);
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

headers& headers::add(std::string_view name, std::string_view value) {
    if (name.empty() || name.find_first_of(std::string_view(":\r\n \0", 5)) != std::string_view::npos) {
        throw std::invalid_argument("jetstream::headers: a name is empty, or has a colon, a space or a line break");
    }
    if (value.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
        throw std::invalid_argument("jetstream::headers: the value of " + std::string(name) + " has a line break");
    }
    all_.emplace_back(name, value);
    return *this;
}

std::string_view headers::operator[](std::string_view name) const noexcept {
    for (const value_type& one : all_) {
        if (detail::same_name(one.first, name)) return one.second;
    }
    return {};
}

bool headers::contains(std::string_view name) const noexcept {
    return std::any_of(
        all_.begin(), all_.end(), [&](const value_type& one) { return detail::same_name(one.first, name); });
}

}  // namespace aio::inline v0::jetstream
