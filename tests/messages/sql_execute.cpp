// error: query(sql, args...) runs a statement, execute_many(sql, tuples) runs it once for each tuple
#include <aio/sql.hpp>

aio::coro<> work(aio::sql::connection& db) { co_await db.execute("DELETE FROM t WHERE id = $1", 7); }
