#pragma once
// PostgreSQL's binary format: which types a field reads in it, and how.

#include "sql/calendar.hpp"
#include "sql/table.hpp"

namespace aio::inline v0::sql {

/// True if fields read values of a type (its OID) in binary format. For timestamptz it is false: its text depends on
/// the session's time zone, which a binary value does not have. (A driver may give it as binary all the same, if it
/// knows that the session's zone is UTC.)
bool reads_binary(std::uint32_t type) noexcept;

/// Adds a value that the server has sent in binary format: numbers, truth values, texts and bytes as such, the rest by
/// table::add_binary(), to be decoded when it is read. Throws sql::error if its size is impossible.
void add_binary_value(table& t, std::uint32_t type, const char* data, std::size_t size);

/// The text that PostgreSQL has for a binary value; a timestamptz is in UTC. Throws std::invalid_argument for a type
/// that reads_binary() does not have and for a malformed value.
std::string text_of_binary(std::uint32_t type, std::string_view value);

/// The text that PostgreSQL has for a float8: "1", "1e+20", "NaN".
std::string text_of_real(double v);

/// Reads a date, timestamp or timestamptz. False if the value is infinite.
bool time_of_binary(std::uint32_t type, std::string_view value, instant& t);
bool is_time_type(std::uint32_t type) noexcept;

/// The type of an array's elements, or 0 if it is none that is known.
std::uint32_t element_type(std::uint32_t array) noexcept;

/// Fills a table of one column with the elements of an array of one dimension in binary format. False if it has more.
bool elements_of_binary(std::string_view value, table& t);

}  // namespace aio::inline v0::sql
