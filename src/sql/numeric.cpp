// Decimal numbers as text. A number is kept in one form, without leading zeros, a plus or an exponent, so that
// comparing two of them compares digits. "-0" is "0"; zeros after the point stay, because they tell the scale.

#include <aio/sql/numeric.hpp>

#include <charconv>
#include <limits>
#include <stdexcept>

namespace aio::inline v0::sql {
namespace {

constexpr std::int64_t most_before = 131'072;
constexpr std::int64_t most_after = 16'383;

[[noreturn]] void refuse(const char* why) { throw std::invalid_argument(why); }

bool is_digits(std::string_view text) { return text.find_first_not_of("0123456789") == std::string_view::npos; }

/// "NaN", "Infinity" or "-Infinity" for the words that PostgreSQL takes for them, in any case; else empty.
std::string_view word_of(std::string_view text) {
    std::string lower(text.substr(0, 10));
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (lower == "nan") return "NaN";
    if (lower == "infinity" || lower == "+infinity" || lower == "inf" || lower == "+inf") return "Infinity";
    if (lower == "-infinity" || lower == "-inf") return "-Infinity";
    return {};
}

/// Takes "e-12" off the end of a number.
std::int64_t cut_exponent(std::string_view& text) {
    const std::size_t at = text.find_first_of("eE");
    if (at == std::string_view::npos) return 0;
    std::string_view digits = text.substr(at + 1);
    if (digits.starts_with('+')) {
        digits.remove_prefix(1);
        if (digits.starts_with('-')) refuse("a text is no decimal number");
    }
    std::int64_t exponent = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if (digits.empty() || end != digits.data() + digits.size() || code == std::errc::invalid_argument)
        refuse("a text is no decimal number");
    if (code != std::errc() || exponent > most_before + most_after || exponent < -most_before - most_after)
        refuse("a decimal number has more digits than a database takes");
    text = text.substr(0, at);
    return exponent;
}

struct parts {
    bool negative = false;
    std::string_view whole, fraction;  // the first without leading zeros, the other without those at the end
};

parts split(std::string_view text) {
    parts p;
    p.negative = text.starts_with('-');
    if (p.negative) text.remove_prefix(1);
    const std::size_t point = text.find('.');
    p.whole = text.substr(0, point);
    if (p.whole == "0") p.whole = {};
    if (point != std::string_view::npos) p.fraction = text.substr(point + 1);
    while (p.fraction.ends_with('0')) p.fraction.remove_suffix(1);
    return p;
}

/// For -Infinity, numbers, Infinity and NaN: 0, 1, 2 and 3.
int rank_of(std::string_view text) {
    if (text == "NaN") return 3;
    if (text.ends_with('y')) return text.starts_with('-') ? 0 : 2;
    return 1;
}

}  // namespace

numeric::numeric(std::string_view text) {
    if (const std::string_view word = word_of(text); !word.empty()) {
        text_ = word;
        return;
    }
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    const std::int64_t exponent = cut_exponent(text);
    const std::size_t point = text.find('.');
    std::string digits(text.substr(0, point));
    auto before = static_cast<std::int64_t>(digits.size());
    if (point != std::string_view::npos) digits += text.substr(point + 1);
    if (digits.empty() || !is_digits(digits)) refuse("a text is no decimal number");
    before += exponent;
    if (before < 0) {
        digits.insert(0, static_cast<std::size_t>(-before), '0');
        before = 0;
    }
    if (before > static_cast<std::int64_t>(digits.size()))
        digits.append(static_cast<std::size_t>(before) - digits.size(), '0');
    std::string whole = digits.substr(0, static_cast<std::size_t>(before));
    const std::string fraction = digits.substr(static_cast<std::size_t>(before));
    whole.erase(0, whole.find_first_not_of('0'));
    if (static_cast<std::int64_t>(whole.size()) > most_before ||
        static_cast<std::int64_t>(fraction.size()) > most_after)
        refuse("a decimal number has more digits than a database takes");
    const bool zero = whole.empty() && fraction.find_first_not_of('0') == std::string::npos;
    text_ = negative && !zero ? "-" : "";
    text_ += whole.empty() ? "0" : whole;
    if (!fraction.empty()) text_ += "." + fraction;
}

std::int64_t numeric::to_integer() const {
    const parts p = split(text_);
    if (rank_of(text_) != 1 || !p.fraction.empty()) refuse("a decimal number is no whole number");
    std::int64_t v = 0;
    const std::string_view whole = std::string_view(text_).substr(0, text_.find('.'));
    if (std::from_chars(whole.data(), whole.data() + whole.size(), v).ec != std::errc())
        refuse("a decimal number does not fit into a signed integer of 64 bits");
    return v;
}

double numeric::to_double() const {
    double v = 0;
    const auto [end, code] = std::from_chars(text_.data(), text_.data() + text_.size(), v);
    if (code != std::errc::result_out_of_range) return v;
    const parts p = split(text_);  // a number that is too small has no digits before the point
    const double size = p.whole.empty() ? 0.0 : std::numeric_limits<double>::infinity();
    return p.negative ? -size : size;
}

int numeric::compare(std::string_view a, std::string_view b) noexcept {
    const int rank_a = rank_of(a), rank_b = rank_of(b);
    if (rank_a != 1 || rank_b != 1) return rank_a - rank_b;
    const parts pa = split(a), pb = split(b);
    if (pa.negative != pb.negative) {
        return pa.negative ? -1 : 1;  // there is no -0
    }
    int order = pa.whole.size() < pb.whole.size() ? -1 : pa.whole.size() > pb.whole.size() ? 1 : 0;
    if (order == 0) order = pa.whole.compare(pb.whole);
    if (order == 0) order = pa.fraction.compare(pb.fraction);
    return pa.negative ? -order : order;
}

}  // namespace aio::inline v0::sql
