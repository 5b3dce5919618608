#pragma once
// What is to be opened as an SQLite database, and how.

#include "sql/driver.hpp"

#include <string>

namespace aio::inline v0::sql {

struct sqlite_settings {
    std::string path;  // ":memory:", or a file
    bool read_only = false;
    bool create = true;
    bool immutable = false;
    bool prefers_wal = false;  // set the journal mode if that can be done
    delay busy_timeout = std::nullopt;
    std::string pragmas;
    std::size_t statement_cache = 100;

    bool in_memory() const noexcept { return path == ":memory:"; }
    /// The name for sqlite3_open_v2 with SQLITE_OPEN_URI.
    std::string uri() const;
};

/// Reads a URL that begins with "sqlite:". Throws std::invalid_argument.
sqlite_settings read_sqlite_url(const std::string& url, const connect_options& options);

}  // namespace aio::inline v0::sql
