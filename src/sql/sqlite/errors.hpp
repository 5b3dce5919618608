#pragma once
// What SQLite's errors are called, and what is shown of them.

#include <aio/sql/rows.hpp>

#include <string>

namespace aio::inline v0::sql {

/// "SQLITE_CONSTRAINT_UNIQUE".
std::string sqlite_code_name(int code);
/// The text for what(): SQLite's own words (p.message) if they quote only names, and otherwise the meaning of the code.
/// Fills in the names of a broken constraint.
std::string sqlite_error_text(int code, error::parts& p);

}  // namespace aio::inline v0::sql
