// The order of the conditions is that of RFC 9110, 13.2.2. Whatever a client asks for, the work is linear in the text.

#include "http/app/conditions.hpp"

#include "http/access.hpp"
#include "http/app/date.hpp"

#include <utility>

namespace aio::inline v0::detail {

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

namespace {

file_verdict verdict_of(std::vector<byte_span> parts) {
    if (parts.empty()) return {416, 0, 0, {}};
    if (parts.size() == 1) return {206, parts.front().offset, parts.front().count, {}};
    return {206, 0, 0, std::move(parts)};
}

}  // namespace

file_verdict judge(const file_conditions& asked, const file_facts& facts) {
    if (asked.if_match) {
        if (!tags_have(*asked.if_match, facts.tag, false)) return {412, 0, 0, {}};
    } else if (asked.if_unmodified_since && is_modified_after(*asked.if_unmodified_since, facts)) {
        return {412, 0, 0, {}};
    }
    if (is_not_modified(asked, facts)) return {304, 0, 0, {}};
    if (asked.range && range_is_of_this_file(asked, facts)) {
        if (std::optional<std::vector<byte_span>> parts = parts_asked_for(*asked.range, facts.size))
            return verdict_of(std::move(*parts));
    }
    return {200, 0, facts.size, {}};
}

}  // namespace aio::inline v0::detail
