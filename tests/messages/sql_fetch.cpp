// error: query(sql, args...) gives all rows; for a stream take a connection by acquire()
#include <aio/sql.hpp>

aio::coro<> work(aio::sql::pool& pool) { auto rows = co_await pool.fetch("SELECT 1"); }
