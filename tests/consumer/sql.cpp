// A user's program with aio::sql, which needs what the library links to: SQLite, libpq and, with TLS, OpenSSL.

#include <aio/aio.hpp>
#include <aio/sql.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>

namespace {

aio::coro<> all() {
    auto& db = co_await aio::enter(aio::sql::connect("sqlite::memory:"));
    const aio::sql::rows rows = co_await db.query("SELECT 6 * $1", 7);
    if (rows[0][0].as<int>() != 42) std::abort();
    bool refused = false;
    try {
        auto& none = co_await aio::enter(aio::sql::connect("postgresql://nobody@127.0.0.1:1/none"));
        static_cast<void>(none);
    } catch (const std::exception&) { refused = true; }
    if (!refused) std::abort();
}

}  // namespace

int main() {
    aio::run(all());
    std::puts("the installed aio::sql works");
}
