// Which statements only read. Two such statements may share a Sync, and so a transaction: see session.cpp.

#include "sql/postgres/statement_cache.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

namespace aio::inline v0::sql {
namespace {

bool in_word(char c) noexcept { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0; }

/// Words that may stand before a parenthesis: those of the language, and functions that change nothing. In order.
constexpr std::string_view harmless[] = {"abs", "all", "and", "any", "as", "avg", "between", "by", "case", "char",
    "coalesce", "count", "decimal", "else", "except", "exists", "from", "greatest", "having", "in", "intersect", "is",
    "join", "least", "length", "like", "limit", "lower", "max", "min", "not", "nullif", "numeric", "offset", "on", "or",
    "over", "partition", "select", "sum", "then", "union", "upper", "using", "values", "varchar", "when", "where"};

/// A part of a statement. Its kind is one of these, or the sign itself; a literal's is its quote.
struct token {
    static constexpr char word = 'w', name = '"', end = 0, unclear = '?';
    char kind = end;
    std::string_view text = {};
};

bool is_space(char c) noexcept { return std::isspace(static_cast<unsigned char>(c)) != 0; }

/// Takes a statement apart. Comments, dollar quotes, escapes and a second statement are unclear to it.
class tokens {
public:
    explicit tokens(std::string_view text) noexcept : text_(text) {}
    token next() {
        while (at_ < text_.size() && is_space(text_[at_])) ++at_;
        if (at_ == text_.size()) return {};
        const std::size_t from = at_;
        const char c = text_[at_++];
        if (in_word(c)) {
            while (at_ < text_.size() && in_word(text_[at_])) ++at_;
            return {token::word, text_.substr(from, at_ - from)};
        }
        if (c == '\'' || c == '"') return quoted(c, from);
        const char behind = at_ < text_.size() ? text_[at_] : ' ';
        const bool comment = (c == '-' && behind == '-') || (c == '/' && behind == '*');
        const bool parameter = std::isdigit(static_cast<unsigned char>(behind)) != 0;
        if (c == ';' || c == '\\' || c == token::end || c == token::unclear || comment || (c == '$' && !parameter))
            return {token::unclear};
        return {c};
    }

private:
    token quoted(char quote, std::size_t from) {
        const std::size_t end = text_.find(quote, at_);
        const bool prefixed = from > 0 && in_word(text_[from - 1]);  // E'...' and the like
        if (end == std::string_view::npos || prefixed) return {token::unclear};
        at_ = end + 1;
        return {quote};
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

std::string lower(std::string_view text) {
    std::string all(text);
    for (char& c : all) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return all;
}

/// True if a parenthesis behind these two calls a function that may do something.
bool may_call(const token& before, const token& last) {
    if (last.kind != token::word) return last.kind == token::name;
    return before.kind == '.' || !std::binary_search(std::begin(harmless), std::end(harmless), lower(last.text));
}

}  // namespace

// It rather says no: to what is unclear, to functions that it does not know, to locks (FOR UPDATE) and to SELECT INTO.
bool only_reads(std::string_view text) {
    tokens all(text);
    token before, last = all.next();
    const std::string first = lower(last.text);
    if (first != "select" && first != "values") return false;
    for (;;) {
        const token t = all.next();
        if (t.kind == token::end) return true;
        if (t.kind == token::unclear || (t.kind == '(' && may_call(before, last))) return false;
        if (t.kind == token::word) {
            const std::string word = lower(t.text);
            if (word == "for" || word == "into" || word == "lock") return false;
        }
        before = std::exchange(last, t);
    }
}

}  // namespace aio::inline v0::sql
