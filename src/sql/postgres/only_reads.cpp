// Which statements only read. Two such statements may share a Sync, and so a transaction: see session.cpp.

#include "sql/postgres/statement_cache.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

namespace aio::sql {
namespace {

bool in_word(char c) noexcept { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0; }

/// Words that may stand before a parenthesis: those of the language, and functions that change nothing. In order.
constexpr std::string_view harmless[] = {"abs", "all", "and", "any", "as", "avg", "between", "by", "case", "char",
    "coalesce", "count", "decimal", "else", "except", "exists", "from", "greatest", "having", "in", "intersect", "is",
    "join", "least", "length", "like", "limit", "lower", "max", "min", "not", "nullif", "numeric", "offset", "on", "or",
    "over", "partition", "select", "sum", "then", "union", "upper", "using", "values", "varchar", "when", "where"};

}  // namespace

// It rather says no: to comments, to dollar quotes, to escapes, to functions that it does not know, to locks (FOR
// UPDATE) and to SELECT INTO.
bool only_reads(std::string_view text) {
    bool first = true;
    std::string word;
    char before = ' ';  // the sign that stood before the word
    char last = ' ';    // the last sign that was no space
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_word(c)) {
            const std::size_t from = i;
            while (i + 1 < text.size() && in_word(text[i + 1])) ++i;
            before = std::exchange(last, 'w');
            word.assign(text.substr(from, i + 1 - from));
            for (char& w : word) w = static_cast<char>(std::tolower(static_cast<unsigned char>(w)));
            if (std::exchange(first, false) && word != "select" && word != "values") return false;
            if (word == "for" || word == "into" || word == "lock") return false;
            continue;
        }
        if (first && !std::isspace(static_cast<unsigned char>(c))) return false;
        if (!std::isspace(static_cast<unsigned char>(c))) last = c;
        if (c == '\'' || c == '"') {
            if (i > 0 && in_word(text[i - 1])) return false;  // E'...' and the like
            i = text.find(c, i + 1);
            if (i == std::string_view::npos) return false;
            word = c == '"' ? "\"" : "";
            continue;
        }
        const char next = i + 1 < text.size() ? text[i + 1] : ' ';
        if (c == ';' || c == '\\' || (c == '-' && next == '-') || (c == '/' && next == '*')) return false;
        if (c == '$' && !std::isdigit(static_cast<unsigned char>(next))) return false;
        if (c == '(' && !word.empty()) {
            if (before == '.' || !std::binary_search(std::begin(harmless), std::end(harmless), word)) return false;
        }
        if (!std::isspace(static_cast<unsigned char>(c))) word.clear();
    }
    return !first;
}

}  // namespace aio::sql
