// What a look at a statement tells, without taking it apart: whether it is a SELECT, whether its parameters are marked
// as elsewhere, and whether it may leave something behind in a PostgreSQL session, for a pool that hands the session
// on.

#include "sql/driver.hpp"

#include <algorithm>
#include <iterator>

namespace aio::inline v0::sql {
namespace {

char lower(char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); }

bool starts_with_word(std::string_view text, std::string_view word) {
    if (text.size() < word.size()) return false;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (lower(text[i]) != word[i]) return false;
    }
    return true;
}

/// True if a call of set_config() or of pg_advisory_lock() and the like may stand in the text.
bool calls_for_session(std::string_view text) {
    for (std::size_t at = text.find('_'); at != std::string_view::npos; at = text.find('_', at + 1)) {
        const std::string_view rest = text.substr(at + 1);
        if (starts_with_word(rest, "advisory") || starts_with_word(rest, "config")) return true;
    }
    return false;
}

// Statements of these kinds set nothing but by a function that they call. COPY, LOCK and NOTIFY end with their
// transaction.
constexpr std::string_view harmless[] = {"select", "insert", "update", "delete", "with", "begin", "commit", "rollback",
    "start", "savepoint", "release", "merge", "values", "table", "copy", "notify", "show", "explain", "truncate",
    "lock", "end", "abort"};

}  // namespace

const char* advice_on_parameters(std::string_view statement) noexcept {
    if (statement.find("$1") != std::string_view::npos) return "";
    bool marked = statement.find("%s") != std::string_view::npos || statement.find('?') != std::string_view::npos;
    for (std::size_t at = statement.find(':'); at < statement.size() && !marked; at = statement.find(':', at + 1)) {
        const char before = at > 0 ? statement[at - 1] : ' ';
        const char behind = at + 1 < statement.size() ? statement[at + 1] : ' ';
        marked = before != ':' && ((behind >= 'a' && behind <= 'z') || (behind >= 'A' && behind <= 'Z'));
    }
    return marked ? "; parameters are $1, $2 ..." : "";
}

bool is_select(std::string_view statement) noexcept {
    for (;;) {
        statement.remove_prefix(std::min(statement.find_first_not_of(" \t\r\n"), statement.size()));
        const bool line = statement.starts_with("--");
        if (!line && !statement.starts_with("/*")) break;
        const std::size_t end = line ? statement.find('\n', 2) : statement.find("*/", 2);
        if (end == std::string_view::npos) return false;
        statement.remove_prefix(end + (line ? 1 : 2));
    }
    return starts_with_word(statement, "select") || starts_with_word(statement, "with") ||
        starts_with_word(statement, "values");
}

bool may_change_session(std::string_view statement) noexcept {
    const std::size_t first = statement.find_first_not_of(" \t\r\n(");
    if (first == std::string_view::npos) return false;
    statement.remove_prefix(first);
    const std::size_t semicolon = statement.find(';');
    if (semicolon != std::string_view::npos &&
        statement.find_first_not_of(" \t\r\n;", semicolon) != std::string_view::npos)
        return true;  // several statements, or a text that looks like it
    const bool known = std::any_of(std::begin(harmless), std::end(harmless),
        [statement](std::string_view word) { return starts_with_word(statement, word); });
    return !known || calls_for_session(statement);
}

}  // namespace aio::inline v0::sql
