#pragma once
// The result of a query: the drivers fill a table, and aio::sql::rows reads it. A cell takes 16 bytes, and all text and
// bytes stand in one string, so a row allocates nothing of its own.

#include <aio/sql/rows.hpp>

namespace aio::inline v0::sql {

/// A value. A number or a boolean lies in the cell; text and bytes lie in table::bytes.
struct cell {
    parameter::kind kind = parameter::kind::null;
    bool binary = false;     // the bytes are a value in PostgreSQL's binary format; the kind is text
    std::uint32_t size = 0;  // of text or bytes; no database has a value beyond 2 GB
    union {
        std::int64_t integer = 0;
        double real;
        std::uint64_t offset;  // into table::bytes
    };
};

/// The rows of a result, or of one batch of a stream.
class table {
public:
    std::vector<std::string> columns;
    /// PostgreSQL's type of each column (its OID), or nothing where none is known (SQLite).
    std::vector<std::uint32_t> types;
    std::vector<cell> cells;  // row by row
    std::string bytes;
    std::size_t row_count = 0;
    std::size_t affected = 0;
    std::string tag;  // PostgreSQL's command tag

    const cell& at(std::size_t row, std::size_t column) const noexcept { return cells[row * columns.size() + column]; }
    std::uint32_t type(std::size_t column) const noexcept { return column < types.size() ? types[column] : 0; }
    std::string_view text(const cell& c) const noexcept { return std::string_view(bytes).substr(c.offset, c.size); }

    void add_null() { cells.emplace_back(); }
    void add_integer(std::int64_t v, parameter::kind kind = parameter::kind::integer) {
        cell& c = cells.emplace_back();
        c.kind = kind;
        c.integer = v;
    }
    void add_real(double v) {
        cell& c = cells.emplace_back();
        c.kind = parameter::kind::real;
        c.real = v;
    }
    void add_bytes(const void* data, std::size_t size, parameter::kind kind) {
        cell& c = cells.emplace_back();
        c.kind = kind;
        c.size = static_cast<std::uint32_t>(size);
        c.offset = bytes.size();
        bytes.append(static_cast<const char*>(data), size);
    }
    /// A value in PostgreSQL's binary format. The format belongs to types[column], which must be set. A field decodes
    /// it when it is read; see src/sql/binary.hpp, which makes a cell of any value that a server sends.
    void add_binary(const void* data, std::size_t size) {
        add_bytes(data, size, parameter::kind::text);
        cells.back().binary = true;
    }
};

using table_ptr = std::shared_ptr<const table>;

/// Writes a double as text that reads back as the same double.
std::string format_real(double v);

}  // namespace aio::inline v0::sql
