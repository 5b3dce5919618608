#pragma once
// What a database has to offer to connection: PostgreSQL and SQLite implement it. Operations come one at a time.

#include "sql/table.hpp"

#include <aio/coro.hpp>

#include <chrono>

namespace aio::sql {

/// What a cancel does to a statement.
enum class on_cancel : std::uint8_t {
    interrupt,  // not begun: it never is. Begun: the database is asked to stop it
    finish,     // once begun it runs to its end: COMMIT, whose outcome must be known
    shield,     // it is begun even if a cancel is pending already: ROLLBACK, closing
};

/// How long a cancelled operation may take until the connection is given up.
inline constexpr std::chrono::seconds cancel_deadline{5};

/// How the last transaction came to its end, if a statement of the user's ended it.
enum class ending : std::uint8_t { committed, rolled_back };

class driver {
public:
    virtual ~driver() = default;

    virtual coro<> open() = 0;
    virtual coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) = 0;
    virtual coro<> close() = 0;

    /// Begins a statement whose rows are fetched one batch after the other; fetch() gives null after the last.
    virtual coro<> open_stream(std::string statement, std::vector<parameter> parameters) = 0;
    virtual coro<table_ptr> fetch() = 0;
    /// The rest of the rows is not wanted. The statement ends by itself before the next operation.
    virtual void drop_stream() noexcept = 0;

    virtual bool usable() noexcept = 0;  // it may look at the connection
    virtual bool in_transaction() const noexcept = 0;
    virtual const char* begin_statement() const noexcept = 0;
    /// Of a transaction that is no longer open although connection has not ended it; and the code for a statement in
    /// it.
    virtual ending ended() const noexcept = 0;
    virtual const char* ended_code() const noexcept = 0;

    driver() = default;
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
};

/// What a database takes at the most: bytes of a statement, of one value and of all values together, and how many
/// parameters.
struct size_limits {
    const char* database;
    std::size_t statement, value, together, parameters;
};
/// What a parameter costs beside its bytes, at most: numbers are sent as text.
inline constexpr std::size_t parameter_overhead = 48;
/// Throws std::invalid_argument, which names the limit.
void check_sizes(const std::string& statement, const std::vector<parameter>& parameters, const size_limits& most);

/// The name of a SQLSTATE: "unique_violation".
std::string condition_of(std::string_view sqlstate);

std::unique_ptr<driver> make_sqlite(std::string path);
std::unique_ptr<driver> make_postgres(const std::string& url);  // throws std::invalid_argument
/// By the URL's scheme. Throws std::invalid_argument.
std::unique_ptr<driver> make_driver(const std::string& url);
/// The URL with *** for passwords.
std::string without_password(const std::string& url);

}  // namespace aio::sql
