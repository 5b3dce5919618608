// What SQLite's errors are called, and what is shown of them.

#include "sql/sqlite/errors.hpp"

#include "sql/driver.hpp"

#include <string_view>

#include <sqlite3.h>

namespace aio::inline v0::sql {
namespace {

struct code_name {
    int code;
    const char* name;
};
// clang-format off
#define AIO_CODE(name) {name, #name}
constexpr code_name code_names[] = {
    AIO_CODE(SQLITE_ERROR), AIO_CODE(SQLITE_INTERNAL), AIO_CODE(SQLITE_PERM), AIO_CODE(SQLITE_ABORT),
    AIO_CODE(SQLITE_BUSY), AIO_CODE(SQLITE_LOCKED), AIO_CODE(SQLITE_NOMEM), AIO_CODE(SQLITE_READONLY),
    AIO_CODE(SQLITE_INTERRUPT), AIO_CODE(SQLITE_IOERR), AIO_CODE(SQLITE_CORRUPT), AIO_CODE(SQLITE_NOTFOUND),
    AIO_CODE(SQLITE_FULL), AIO_CODE(SQLITE_CANTOPEN), AIO_CODE(SQLITE_PROTOCOL), AIO_CODE(SQLITE_EMPTY),
    AIO_CODE(SQLITE_SCHEMA), AIO_CODE(SQLITE_TOOBIG), AIO_CODE(SQLITE_CONSTRAINT), AIO_CODE(SQLITE_MISMATCH),
    AIO_CODE(SQLITE_MISUSE), AIO_CODE(SQLITE_NOLFS), AIO_CODE(SQLITE_AUTH), AIO_CODE(SQLITE_FORMAT),
    AIO_CODE(SQLITE_RANGE), AIO_CODE(SQLITE_NOTADB), AIO_CODE(SQLITE_ERROR_MISSING_COLLSEQ),
    AIO_CODE(SQLITE_ERROR_RETRY), AIO_CODE(SQLITE_ERROR_SNAPSHOT), AIO_CODE(SQLITE_ABORT_ROLLBACK),
    AIO_CODE(SQLITE_BUSY_RECOVERY), AIO_CODE(SQLITE_BUSY_SNAPSHOT), AIO_CODE(SQLITE_BUSY_TIMEOUT),
    AIO_CODE(SQLITE_LOCKED_SHAREDCACHE), AIO_CODE(SQLITE_LOCKED_VTAB), AIO_CODE(SQLITE_READONLY_RECOVERY),
    AIO_CODE(SQLITE_READONLY_CANTLOCK), AIO_CODE(SQLITE_READONLY_ROLLBACK), AIO_CODE(SQLITE_READONLY_DBMOVED),
    AIO_CODE(SQLITE_READONLY_CANTINIT), AIO_CODE(SQLITE_READONLY_DIRECTORY), AIO_CODE(SQLITE_CORRUPT_VTAB),
    AIO_CODE(SQLITE_CORRUPT_SEQUENCE), AIO_CODE(SQLITE_CORRUPT_INDEX), AIO_CODE(SQLITE_CANTOPEN_NOTEMPDIR),
    AIO_CODE(SQLITE_CANTOPEN_ISDIR), AIO_CODE(SQLITE_CANTOPEN_FULLPATH), AIO_CODE(SQLITE_CANTOPEN_CONVPATH),
    AIO_CODE(SQLITE_CANTOPEN_SYMLINK), AIO_CODE(SQLITE_CONSTRAINT_CHECK), AIO_CODE(SQLITE_CONSTRAINT_COMMITHOOK),
    AIO_CODE(SQLITE_CONSTRAINT_FOREIGNKEY), AIO_CODE(SQLITE_CONSTRAINT_FUNCTION), AIO_CODE(SQLITE_CONSTRAINT_NOTNULL),
    AIO_CODE(SQLITE_CONSTRAINT_PRIMARYKEY), AIO_CODE(SQLITE_CONSTRAINT_TRIGGER), AIO_CODE(SQLITE_CONSTRAINT_UNIQUE),
    AIO_CODE(SQLITE_CONSTRAINT_VTAB), AIO_CODE(SQLITE_CONSTRAINT_ROWID), AIO_CODE(SQLITE_CONSTRAINT_PINNED),
    AIO_CODE(SQLITE_CONSTRAINT_DATATYPE), AIO_CODE(SQLITE_IOERR_READ), AIO_CODE(SQLITE_IOERR_SHORT_READ),
    AIO_CODE(SQLITE_IOERR_WRITE), AIO_CODE(SQLITE_IOERR_FSYNC), AIO_CODE(SQLITE_IOERR_DIR_FSYNC),
    AIO_CODE(SQLITE_IOERR_TRUNCATE), AIO_CODE(SQLITE_IOERR_FSTAT), AIO_CODE(SQLITE_IOERR_UNLOCK),
    AIO_CODE(SQLITE_IOERR_RDLOCK), AIO_CODE(SQLITE_IOERR_DELETE), AIO_CODE(SQLITE_IOERR_NOMEM),
    AIO_CODE(SQLITE_IOERR_ACCESS), AIO_CODE(SQLITE_IOERR_CHECKRESERVEDLOCK), AIO_CODE(SQLITE_IOERR_LOCK),
    AIO_CODE(SQLITE_IOERR_CLOSE), AIO_CODE(SQLITE_IOERR_SHMOPEN), AIO_CODE(SQLITE_IOERR_SHMSIZE),
    AIO_CODE(SQLITE_IOERR_SHMLOCK), AIO_CODE(SQLITE_IOERR_SHMMAP), AIO_CODE(SQLITE_IOERR_SEEK),
    AIO_CODE(SQLITE_IOERR_DELETE_NOENT), AIO_CODE(SQLITE_IOERR_MMAP), AIO_CODE(SQLITE_IOERR_GETTEMPPATH),
    AIO_CODE(SQLITE_IOERR_CONVPATH), AIO_CODE(SQLITE_IOERR_DATA), AIO_CODE(SQLITE_IOERR_CORRUPTFS),
    AIO_CODE(SQLITE_AUTH_USER),
};
#undef AIO_CODE
// clang-format on

}  // namespace

std::string sqlite_code_name(int code) {
    for (const int wanted : {code, code & 0xFF}) {
        for (const code_name& c : code_names) {
            if (c.code == wanted) return c.name;
        }
    }
    return "SQLITE_" + std::to_string(code);
}

namespace {

// SQLite's messages quote literals and parameters ("near "secret"", and what functions say), which errors must not
// show. These functions give SQLite's own words if they quote only names, and otherwise the meaning of the code.

/// The text for a broken constraint: "UNIQUE constraint failed: t.name". Fills in the names of p, too.
std::string constraint_text(int code, error::parts& p) {
    const std::string_view message = p.message;
    constexpr std::string_view failed = " constraint failed: ";
    const std::size_t at = message.find(failed);
    const bool of_columns =
        code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_NOTNULL;
    if (at == std::string_view::npos || (!of_columns && code != SQLITE_CONSTRAINT_CHECK)) return sqlite3_errstr(code);
    const std::string_view what = message.substr(at + failed.size());
    const std::size_t point = what.find('.');
    if (what.find('\'') != std::string_view::npos) {
        // This is "index 'name'", or a check without a name, whose text may hold literals.
        if (!of_columns) return std::string(message.substr(0, at)) + " constraint failed";
        const std::size_t quote = what.find('\'') + 1;
        p.constraint = what.substr(quote, what.rfind('\'') - quote);
    } else if (!of_columns) {
        p.constraint = what;
    } else if (point != std::string_view::npos) {
        p.table = what.substr(0, point);
        p.column = what.substr(point + 1, what.find(',') - point - 1);
    }
    return std::string(message);
}

/// True for "no such table: name" and the like if the name is a word of the statement and not in quotes, so no literal.
bool misses_a_name(std::string_view message, std::string_view statement) {
    for (const std::string_view about : {"no such table: ", "no such column: ", "no such function: "}) {
        if (!message.starts_with(about)) continue;
        const std::string_view name = message.substr(about.size());
        const std::size_t at = statement.find(name);
        if (at == std::string_view::npos || name.find_first_of("'\" ") != std::string_view::npos) return false;
        return at == 0 || std::string_view("'\"`[").find(statement[at - 1]) == std::string_view::npos;
    }
    return false;
}

}  // namespace

std::string sqlite_error_text(int code, error::parts& p) {
    const std::string_view message = p.message;
    if ((code & 0xFF) == SQLITE_CONSTRAINT) return constraint_text(code, p);
    // SQLite's words for these mislead: "attempt to write a readonly database" and "database is locked".
    if (code == SQLITE_READONLY_DBMOVED) return "the file was moved or removed while it was open";
    if (code == SQLITE_READONLY_DIRECTORY) return "the folder of the file cannot be written, as a journal asks for";
    if (code == SQLITE_BUSY_SNAPSHOT) {
        return "database is locked: another connection has written since this transaction first read; roll it back, "
               "and "
               "begin it anew";
    }
    if ((code & 0xFF) == SQLITE_ERROR) {
        if (misses_a_name(message, p.statement) || message == "integer overflow") return p.message;
        if (message.ends_with(": syntax error") || message == "incomplete input")
            return std::string("syntax error") + advice_on_parameters(p.statement);
    }
    return sqlite3_errstr(code);
}

}  // namespace aio::inline v0::sql
