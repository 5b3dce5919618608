// Qualities are read as thousandths. What is malformed counts as refused: a plain body is always right, but for a
// client that says otherwise.

#include "http/app/accept_encoding.hpp"

#include "http/access.hpp"

#include <optional>

namespace aio::inline v0::detail {

namespace {

/// Gives 1000 for "1", "1.0", 500 for "0.5"; 0 for what is no quality.
int quality(std::string_view text) noexcept {
    if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return 0;
    if (text.size() > 1 && text[1] != '.') return 0;
    int value = (text[0] - '0') * 1000;
    int unit = 100;
    for (const char c : text.substr(std::min<std::size_t>(2, text.size()))) {
        if (c < '0' || c > '9') return 0;
        value += (c - '0') * unit;
        unit /= 10;
    }
    return value <= 1000 ? value : 0;
}

int quality_of(std::string_view element) noexcept {
    const std::size_t semicolon = element.find(';');
    if (semicolon == element.npos) return 1000;
    const std::string_view parameter = trimmed(element.substr(semicolon + 1));
    const bool is_q = parameter.starts_with("q=") || parameter.starts_with("Q=");
    return is_q ? quality(trimmed(parameter.substr(2))) : 0;
}

}  // namespace

accepted_encodings::accepted_encodings(const http::headers& fields) {
    std::optional<int> of_gzip, of_identity, of_any;
    for (const auto& [name, value] : fields) {
        if (!equal_ignoring_case(name, "Accept-Encoding")) continue;
        for_each_element(value, [&](std::string_view element) {
            const std::string_view coding = trimmed(element.substr(0, element.find(';')));
            if (equal_ignoring_case(coding, "gzip") || equal_ignoring_case(coding, "x-gzip")) {
                of_gzip = quality_of(element);
            } else if (equal_ignoring_case(coding, "identity")) {
                of_identity = quality_of(element);
            } else if (coding == "*") {
                of_any = quality_of(element);
            }
        });
    }
    const int gzip_quality = of_gzip ? *of_gzip : of_any.value_or(0);
    identity = of_identity ? *of_identity > 0 : of_any.value_or(1) > 0;
    gzip = gzip_quality > 0 && gzip_quality >= of_identity.value_or(0);
}

void vary_by_encoding(http::headers& fields) {
    for (const std::string& value : fields.get_all("Vary")) {
        if (list_has(value, "Accept-Encoding") || list_has(value, "*")) return;
    }
    fields.add("Vary", "Accept-Encoding");
}

}  // namespace aio::inline v0::detail
