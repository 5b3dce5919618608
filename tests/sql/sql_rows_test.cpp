// What does not fit into the type that a program asks for, from both databases: each error names the column and the
// type, and nothing is cut, wrapped or made up. Texts with anything in them, and streams of rows that do not fit.
#include "sql_test.hpp"

#include <cstdlib>
#include <limits>

namespace {

namespace sql = aio::sql;
using namespace std::chrono;

template<class F>
std::string what(F fn) {
    try {
        static_cast<void>(fn());
    } catch (const std::invalid_argument& e) { return e.what(); } catch (const std::exception& e) {
        return std::string("another exception: ") + e.what();
    }
    return "nothing";
}

/// Asks a field for a type that it does not fit: the error names both.
template<class T>
void expect_refused(const sql::row& row, std::string_view column, const std::string& type) {
    const std::string text = what([&] { return row[column].as<T>(); });
    EXPECT_CONTAINS(text, "column '" + std::string(column) + "': ");
    EXPECT_CONTAINS(text, type);
}

/// Runs the body with a connection to SQLite, and with one to PostgreSQL if there is one.
template<class Body>
aio::coro<> with_both(Body body) {
    co_await aio::with(sql::connect("sqlite::memory:"), [&](sql::connection& db) { return body(db, false); });
    const char* const url = std::getenv("AIO_TEST_POSTGRES");
    if (url) co_await aio::with(sql::connect(url), [&](sql::connection& db) { return body(db, true); });
}

struct user {
    int id;
    std::string name;
    std::optional<double> weight;
};

}  // namespace

AIO_REAL_TEST("NULL into a type that has none names the column and the type, and std::optional takes it") {
    co_await with_both([](sql::connection& db, bool) -> aio::coro<> {
        const sql::rows rows = co_await db.query("SELECT NULL AS none");
        const sql::row row = rows[0];
        expect_refused<bool>(row, "none", "NULL is no truth value, for a bool; as<std::optional");
        expect_refused<std::int16_t>(row, "none", "NULL does not fit into a signed integer of 16 bits; as<std::opt");
        expect_refused<std::uint64_t>(row, "none", "an unsigned integer of 64 bits");
        expect_refused<float>(row, "none", "a float");
        expect_refused<double>(row, "none", "a double");
        expect_refused<std::string>(row, "none", "a std::string");
        expect_refused<std::vector<std::byte>>(row, "none", "a std::vector<std::byte>");
        expect_refused<std::vector<int>>(row, "none", "a std::vector");
        expect_refused<sql::numeric>(row, "none", "a sql::numeric");
        expect_refused<sql::uuid>(row, "none", "a sql::uuid");
        expect_refused<sys_seconds>(row, "none", "a time");
        expect_refused<year_month_day>(row, "none", "a time");
        EXPECT_FALSE(row[0].as<std::optional<int>>().has_value());
        EXPECT_FALSE(row[0].as<std::optional<std::vector<int>>>().has_value());
        EXPECT_FALSE(rows.as<std::optional<std::string>>()[0].has_value());
    });
}

AIO_REAL_TEST("numbers at and beyond the limits of each type: the last that fits is exact, the next is refused") {
    co_await with_both([](sql::connection& db, bool postgres) -> aio::coro<> {
        const std::string big = postgres ? "::int8" : "";
        const auto at = [&](std::string number) { return db.query("SELECT " + number + big + " AS n"); };
        EXPECT_EQ((co_await at("127"))[0][0].as<std::int8_t>(), 127);
        EXPECT_EQ((co_await at("(-128)"))[0][0].as<std::int8_t>(), -128);
        expect_refused<std::int8_t>((co_await at("128"))[0], "n", "'128' does not fit into a signed integer of 8 bits");
        expect_refused<std::int8_t>((co_await at("(-129)"))[0], "n", "8 bits");
        expect_refused<std::uint8_t>((co_await at("256"))[0], "n", "an unsigned integer of 8 bits");
        expect_refused<std::uint8_t>((co_await at("(-1)"))[0], "n", "an unsigned integer of 8 bits");
        expect_refused<std::int32_t>((co_await at("2147483648"))[0], "n", "a signed integer of 32 bits");
        expect_refused<std::uint32_t>((co_await at("4294967296"))[0], "n", "an unsigned integer of 32 bits");
        expect_refused<bool>((co_await at("2"))[0], "n", "'2' is no truth value, for a bool");
        const std::string most = "9223372036854775807";
        EXPECT_EQ((co_await at(most))[0][0].as<std::uint64_t>(), std::numeric_limits<std::int64_t>::max());
        EXPECT_EQ((co_await at(most))[0][0].as<std::string>(), most);
        // A number that only a decimal has.
        const std::string text = postgres ? "SELECT 18446744073709551616::numeric AS n, 0.5::float8 AS half"
                                          : "SELECT '18446744073709551616' AS n, 0.5 AS half";
        const sql::rows more = co_await db.query(text);
        expect_refused<std::uint64_t>(more[0], "n", "an unsigned integer of 64 bits");
        expect_refused<std::int64_t>(more[0], "n", "a signed integer of 64 bits");
        expect_refused<long>(more[0], "half", "is no whole number, for a signed integer of 64 bits");
        EXPECT_EQ(more[0][0].as<sql::numeric>(), sql::numeric("18446744073709551616"));
        const sql::rows huge = co_await db.query(postgres ? "SELECT 1e300::float8 AS n, '1e400'::numeric AS decimal"
                                                          : "SELECT 1e300 AS n, '1e400' AS decimal");
        expect_refused<float>(huge[0], "n", "does not fit into a float");
        expect_refused<std::int64_t>(huge[0], "n", "a signed integer of 64 bits");
        expect_refused<double>(huge[0], "decimal", "does not fit into a double");
    });
}

AIO_REAL_TEST("text with a NUL, bytes that are no UTF-8, a line break and a megabyte come back as they went") {
    co_await with_both([](sql::connection& db, bool postgres) -> aio::coro<> {
        const std::string type = postgres ? "::text" : "";
        const std::string with_nul("a\0b", 3);
        if (postgres) {
            bool refused = false;
            try {
                co_await db.query("SELECT $1::text", with_nul);
            } catch (const std::invalid_argument&) { refused = true; }
            EXPECT_TRUE(refused);
            std::string code;
            try {
                co_await db.query("SELECT $1::text", "\xff\xfe");
            } catch (const sql::error& e) { code = e.code(); }
            EXPECT_EQ(code, "22021");
        } else {
            EXPECT_EQ((co_await db.query("SELECT $1", with_nul))[0][0].as<std::string>(), with_nul);
            EXPECT_EQ((co_await db.query("SELECT $1", "\xff\xfe"))[0][0].as<std::string>(), "\xff\xfe");
        }
        const std::string large(1'000'000, 'x');
        EXPECT_EQ((co_await db.query("SELECT $1" + type, large))[0][0].as<std::string>(), large);
        // An error shows the beginning of a value, in one line.
        const sql::rows lines = co_await db.query("SELECT $1" + type + " AS t", "1\n2\x7f" + large);
        const std::string text = what([&] { return lines[0]["t"].as<int>(); });
        EXPECT_CONTAINS(text, "'1\\x0A2\\x7Fxxx");
        EXPECT_CONTAINS(text, "...' is no whole number");
        EXPECT_LT(text.size(), 200u);
        const sql::rows cut = co_await db.query("SELECT $1" + type + " AS t", std::string(39, 'x') + "\u00e4\u00e4");
        EXPECT_CONTAINS(what([&] { return cut[0]["t"].as<int>(); }), std::string(39, 'x') + "...'");
    });
}

AIO_REAL_TEST("dates and times out of range, and what is none, are refused by name") {
    co_await with_both([](sql::connection& db, bool postgres) -> aio::coro<> {
        using nanos = sys_time<nanoseconds>;
        const sql::rows rows = co_await db.query(postgres
                ? "SELECT '3000-01-01 00:00:00+00'::timestamptz AS late, 'infinity'::timestamptz AS never, "
                  "'2024-02-30' "
                  "AS none, 'soon'::text AS word, 1.5::float8 AS number, '9999-12-31'::date AS last"
                : "SELECT '3000-01-01 00:00:00' AS late, 'infinity' AS never, '2024-02-30' AS none, 'soon' AS word, "
                  "1.5 "
                  "AS number, '9999-12-31' AS last");
        const sql::row row = rows[0];
        expect_refused<nanos>(row, "late", "is out of the range of the type of time that was asked for");
        EXPECT_EQ(row["late"].as<sys_seconds>(), sys_days(year(3000) / 1 / 1));
        expect_refused<sys_seconds>(row, "never", "is no point in time: take it as text");
        expect_refused<sys_seconds>(row, "none", "is no time or date");
        expect_refused<sys_seconds>(row, "word", "is no time or date");
        expect_refused<sys_seconds>(row, "number", "is no time");
        EXPECT_EQ(row["last"].as<year_month_day>(), year(9999) / 12 / 31);
        expect_refused<sql::uuid>(row, "word", "is no UUID");
        expect_refused<sql::numeric>(row, "word", "is no decimal number, for a sql::numeric");
        expect_refused<std::vector<int>>(row, "number", "is no array");
    });
}

AIO_REAL_TEST("rows as structs: the wrong number of columns, a value that does not fit, and no row at all") {
    co_await with_both([](sql::connection& db, bool) -> aio::coro<> {
        const sql::rows good = co_await db.query("SELECT 1 AS id, 'Ann' AS name, NULL AS weight");
        EXPECT_EQ(good.as<user>().at(0).name, "Ann");
        const sql::rows few = co_await db.query("SELECT 1 AS id, 'Ann' AS name");
        EXPECT_EQ(what([&] { return few.as<user>().size(); }),
            "the row has 2 columns (id, name), but the type that was asked for takes 3");
        const sql::rows many = co_await db.query("SELECT 1 AS id, 'Ann' AS name, 2.5 AS weight, 4 AS more");
        EXPECT_CONTAINS(what([&] { return many.as<user>().size(); }), "the row has 4 columns (id, name, weight, more)");
        const sql::rows turned = co_await db.query("SELECT 'Ann' AS name, 1 AS id, 2.5 AS weight");
        EXPECT_EQ(what([&] { return turned.as<user>().size(); }),
            "column 'name': 'Ann' is no whole number, for a signed integer of 32 bits");
        const sql::rows none = co_await db.query("SELECT NULL AS id, 'Ann' AS name, NULL AS weight");
        EXPECT_CONTAINS(
            what([&] { return none.as<user>().size(); }), "column 'id': NULL does not fit into a signed in");
        const sql::rows empty = co_await db.query("SELECT 1 AS a WHERE 1 = 0");
        EXPECT_TRUE(empty.as<user>().empty());  // there is no row that could be wrong
        // In a stream the rows before the bad one are good, and the connection goes on.
        int seen = 0;
        std::string text;
        {
            auto stream = db.stream("SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 300");
            while (const sql::row* row = co_await stream.next()) {
                text = what([&] { return row->as<std::int8_t>(); });
                if (text == "nothing") ++seen;
            }
        }
        EXPECT_EQ(seen, 2);
        EXPECT_CONTAINS(text, "column 'n': '300' does not fit into a signed integer of 8 bits");
        EXPECT_EQ((co_await db.query("SELECT 1")).size(), 1u);
    });
}

// What somebody who comes from another library writes first, and what the error says.
AIO_REAL_TEST("parameters marked as elsewhere, and the wrong number of them, are errors that say how it goes") {
    co_await with_both([](sql::connection& db, bool postgres) -> aio::coro<> {
        const auto said = [&db](std::string text, auto... values) -> aio::coro<std::string> {
            try {
                co_await db.query(std::move(text), values...);
            } catch (const sql::error& e) { co_return e.what(); }
            co_return "nothing";
        };
        const std::string advice = "; parameters are $1, $2 ...";
        EXPECT_CONTAINS(co_await said("SELECT 1 WHERE 1 = %s", 7), advice);
        if (postgres) {
            EXPECT_CONTAINS(co_await said("SELECT 1 WHERE 1 = ?", 7), advice);
            EXPECT_CONTAINS(co_await said("SELECT 1 WHERE 1 = :id", 7), advice);
        } else {
            EXPECT_CONTAINS(co_await said("SELECT 1 WHERE 1 = :id", 7), "a parameter has a name: parameters are $1");
        }
        EXPECT_EQ((co_await said("SELECT 1 WHERE FROM 1")).find("parameters"), std::string::npos);
        const std::string one = postgres ? "SELECT 1 WHERE $1::int = $2::int" : "SELECT 1 WHERE $1 = $2";
        for (int i = 0; i < 4; ++i) {
            EXPECT_CONTAINS(co_await said(one, 7), "the statement has 2 parameters, but 1 were given");
            EXPECT_EQ(co_await said(one, 7, 7), "nothing");
        }
    });
}
