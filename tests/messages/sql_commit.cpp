// error: a statement is committed by itself; with(db.transaction(), body) commits several at once
#include <aio/sql.hpp>

aio::coro<> work(aio::sql::connection& db) {
    co_await db.query("DELETE FROM t");
    co_await db.commit();
}
