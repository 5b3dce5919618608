// The order of the conditions is that of RFC 9110, 13.2.2. Whatever a client asks for, the work is linear in the text:
// several ranges are answered with the whole file, so nobody has to sort or join them.

#include "http/app/conditions.hpp"

#include "http/access.hpp"
#include "http/app/date.hpp"

#include <algorithm>
#include <limits>

namespace aio::detail {

namespace {

/// The values of all fields of this name, as one list.
std::optional<std::string> joined(const http::headers& fields, std::string_view name) {
    std::optional<std::string> all;
    for (const auto& [known, value] : fields) {
        if (!equal_ignoring_case(known, name)) continue;
        if (all) {
            all->append(", ").append(value);
        } else {
            all = value;
        }
    }
    return all;
}

std::optional<std::uint64_t> number(std::string_view text) noexcept {
    std::uint64_t n = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        const auto digit = static_cast<std::uint64_t>(c - '0');
        constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
        n = n > (most - digit) / 10 ? most : n * 10 + digit;
    }
    return text.empty() ? std::nullopt : std::optional<std::uint64_t>(n);
}

bool is_modified_after(const std::string& date, const file_facts& facts) {
    const std::optional<std::int64_t> when = parse_http_date(date);
    return when && facts.modified > *when;
}

bool is_not_modified(const file_conditions& asked, const file_facts& facts) {
    if (asked.if_none_match) return tags_have(*asked.if_none_match, facts.tag, true);
    if (!asked.if_modified_since) return false;
    const std::optional<std::int64_t> when = parse_http_date(*asked.if_modified_since);
    return when && facts.modified <= *when;
}

bool range_is_of_this_file(const file_conditions& asked, const file_facts& facts) {
    if (!asked.if_range) return true;
    if (asked.if_range->find('"') != std::string::npos) return *asked.if_range == facts.tag;
    const std::optional<std::int64_t> when = parse_http_date(*asked.if_range);
    return when && *when == facts.modified && !facts.is_fresh;
}

file_verdict part_of(const byte_range& range, std::uint64_t size) noexcept {
    if (!range.first) {
        const std::uint64_t count = std::min(*range.last, size);
        return count == 0 ? file_verdict{416, 0, 0} : file_verdict{206, size - count, count};
    }
    if (*range.first >= size) return {416, 0, 0};
    const std::uint64_t last = std::min(range.last.value_or(size - 1), size - 1);
    return {206, *range.first, last - *range.first + 1};
}

}  // namespace

// They are about a file that is read: the answer to a POST, say, is sent whole.
file_conditions::file_conditions(const http::request& request) : is_head(request.method() == "HEAD") {
    if (!is_head && request.method() != "GET") return;
    const http::headers& fields = request.headers();
    if_match = joined(fields, "If-Match");
    if_none_match = joined(fields, "If-None-Match");
    if_modified_since = fields.get("If-Modified-Since");
    if_unmodified_since = fields.get("If-Unmodified-Since");
    if (is_head) return;
    if_range = fields.get("If-Range");
    range = joined(fields, "Range");
}

bool tags_have(std::string_view list, std::string_view tag, bool weak) noexcept {
    list = trimmed(list);
    if (list == "*") return true;
    while (!list.empty()) {
        const std::size_t open = list.find('"');
        const std::size_t close = open == list.npos ? open : list.find('"', open + 1);
        if (close == list.npos) return false;
        const bool is_weak = trimmed(list.substr(0, open)).ends_with("W/");
        if (list.substr(open, close - open + 1) == tag && (weak || !is_weak)) return true;
        list.remove_prefix(close + 1);
    }
    return false;
}

std::optional<byte_range> parse_range(std::string_view text) noexcept {
    const std::size_t equals = text.find('=');
    if (equals == text.npos || !equal_ignoring_case(trimmed(text.substr(0, equals)), "bytes")) return std::nullopt;
    const std::string_view one = trimmed(text.substr(equals + 1));
    const std::size_t hyphen = one.find('-');
    if (hyphen == one.npos) return std::nullopt;
    byte_range range;
    range.first = number(one.substr(0, hyphen));
    range.last = number(one.substr(hyphen + 1));
    if (!range.first && (hyphen > 0 || !range.last)) return std::nullopt;
    if (!range.last && hyphen + 1 < one.size()) return std::nullopt;
    if (range.first && range.last && *range.first > *range.last) return std::nullopt;
    return range;
}

file_verdict judge(const file_conditions& asked, const file_facts& facts) {
    if (asked.if_match) {
        if (!tags_have(*asked.if_match, facts.tag, false)) return {412, 0, 0};
    } else if (asked.if_unmodified_since && is_modified_after(*asked.if_unmodified_since, facts)) {
        return {412, 0, 0};
    }
    if (is_not_modified(asked, facts)) return {304, 0, 0};
    if (asked.range && range_is_of_this_file(asked, facts)) {
        if (const std::optional<byte_range> range = parse_range(*asked.range)) return part_of(*range, facts.size);
    }
    return {200, 0, facts.size};
}

}  // namespace aio::detail
