#pragma once
// Databases: PostgreSQL and SQLite behind one set of names. Part of the library aio::sql.
//
//     auto& db = co_await aio::enter(aio::sql::connect("sqlite::memory:"));
//     co_await db.query("CREATE TABLE points (x REAL, y REAL)");
//     co_await db.query("INSERT INTO points VALUES ($1, $2)", 0.5, 1.5);
//     aio::sql::rows rows = co_await db.query("SELECT x FROM points");
//     double x = rows[0]["x"].as<double>();

#include <aio/detail/base/platform.hpp>

#include <aio/sql/connection.hpp>
#include <aio/sql/numeric.hpp>
#include <aio/sql/parameter.hpp>
#include <aio/sql/pool.hpp>
#include <aio/sql/retry.hpp>
#include <aio/sql/rows.hpp>
#include <aio/sql/uuid.hpp>
