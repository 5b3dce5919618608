#pragma once
// Helpers of the suites that talk to the PostgreSQL server of tests/with_postgres.

#include "faulty_proxy.hpp"
#include "sql_test.hpp"

#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>

namespace aio_test {

inline std::string postgres_url() {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) throw std::runtime_error("AIO_TEST_POSTGRES is not set: run this with tests/with_postgres COMMAND");
    return url;
}
inline int postgres_port() {
    const std::string url = postgres_url();
    return std::atoi(url.c_str() + url.find("127.0.0.1:") + 10);
}
/// The URL with another port.
inline std::string with_port(std::string url, int port) {
    const std::size_t at = url.find("127.0.0.1:") + 10;
    return url.replace(at, url.find('/', at) - at, std::to_string(port));
}

/// The code of the error that an operation throws, or "nothing". What the error says must name PostgreSQL if the
/// connection is at fault, and never the password.
template<class Awaitable>
aio::coro<std::string> code_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const aio::sql::error& e) {
        EXPECT_FALSE(contains(e.what(), "secret") || contains(e.message(), "secret")) << e.what();
        if (e.code().starts_with("08")) { EXPECT_CONTAINS(e.what(), "PostgreSQL"); }
        co_return e.code();
    } catch (const std::exception& e) { co_return e.what(); }
    co_return "nothing";
}

/// The first value of an operation's rows, or the code of its error.
template<class Awaitable>
aio::coro<std::string> outcome(Awaitable operation) {
    std::string value = "no rows";
    auto take = [&]() -> aio::coro<> {
        const aio::sql::rows rows = co_await std::move(operation);
        if (!rows.empty()) value = rows[0][0].template as<std::string>();
    };
    const std::string code = co_await code_of(take());
    co_return code == "nothing" ? value : code;
}

/// The whole outcome, or the error of a connection that is lost.
inline void expect_whole_or_lost(const std::string& got, const std::string& whole) {
    EXPECT_TRUE(got == whole || got.starts_with("08")) << got << " in place of " << whole;
}

inline aio::coro<int> backend_of(aio::sql::connection& db) {
    const aio::sql::rows rows = co_await db.query("SELECT pg_backend_pid()");
    co_return rows[0][0].as<int>();
}
/// Waits until pg_stat_activity, read on another connection, shows the condition for a backend.
inline aio::coro<> until_active(aio::sql::connection& observer, int backend, std::string condition) {
    for (;;) {
        const aio::sql::rows rows =
            co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND " + condition, backend);
        if (!rows.empty()) co_return;
        co_await aio::sleep(1ms);
    }
}

}  // namespace aio_test
