// Every type of parameters and fields, to PostgreSQL and SQLite and back, and rows as structs.
#include "sql_test.hpp"

#include "sql/binary.hpp"

#include <aio/sql_json.hpp>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace {

namespace sql = aio::sql;
using namespace std::chrono;
using namespace std::chrono_literals;
using micros = sys_time<microseconds>;

const char* postgres_url() { return std::getenv("AIO_TEST_POSTGRES"); }
#define NEEDS_POSTGRES()                                    \
    if (!postgres_url()) {                                  \
        std::puts("skipped: AIO_TEST_POSTGRES is not set"); \
        co_return;                                          \
    }

template<class F>
std::string what(F fn) {
    try {
        static_cast<void>(fn());
    } catch (const std::exception& e) { return e.what(); }
    return "nothing";
}

enum class color : std::uint8_t { red = 1, blue = 200 };
enum class deep : std::int64_t { least = std::numeric_limits<std::int64_t>::min() };

micros at(int y, unsigned m, unsigned d, microseconds more = 0us) {
    return sys_days(year(y) / static_cast<int>(m) / static_cast<int>(d)) + more;
}

/// Sends a value and reads it back. type: the SQL type, which PostgreSQL needs.
template<class T>
aio::coro<T> there_and_back(sql::connection& db, std::string type, T value) {
    const std::string statement = type.empty() ? "SELECT $1 AS v" : "SELECT $1::" + type + " AS v";
    const sql::rows rows = co_await db.query(statement, value);
    co_return rows[0][0].as<T>();
}
#define EXPECT_BACK(db, type, ...)                                \
    {                                                             \
        const auto sent = __VA_ARGS__;                            \
        const auto got = co_await there_and_back(db, type, sent); \
        EXPECT_TRUE(got == sent) << type << " of " #__VA_ARGS__;  \
    }

aio::coro<> common_types(sql::connection& db, bool postgres) {
    const auto of = [postgres](const char* type) { return std::string(postgres ? type : ""); };
    EXPECT_BACK(db, of("bool"), true);
    EXPECT_BACK(db, of("bool"), false);
    EXPECT_BACK(db, of("int2"), std::numeric_limits<std::int16_t>::min());
    EXPECT_BACK(db, of("int4"), std::numeric_limits<std::int32_t>::max());
    EXPECT_BACK(db, of("int8"), std::numeric_limits<std::int64_t>::min());
    EXPECT_BACK(db, of("int8"), std::numeric_limits<std::int64_t>::max());
    EXPECT_BACK(db, of("float8"), std::numeric_limits<double>::denorm_min());
    EXPECT_BACK(db, of("float8"), std::numeric_limits<double>::min() / 3);
    EXPECT_BACK(db, of("float8"), std::numeric_limits<double>::max());
    EXPECT_BACK(db, of("float8"), -std::numeric_limits<double>::infinity());
    EXPECT_BACK(db, of("float8"), 0.1 + 0.2);
    EXPECT_BACK(db, of("float4"), 0.1f);
    EXPECT_BACK(db, of("float4"), std::numeric_limits<float>::max());
    EXPECT_BACK(db, of("text"), std::string("Gr\u00fc\u00dfe '\"\\{},\n"));
    EXPECT_BACK(db, of("text"), std::string());
    EXPECT_BACK(db, of("bytea"), std::vector<std::byte>{std::byte{0}, std::byte{255}, std::byte{'\\'}});
    EXPECT_BACK(db, of("bytea"), std::vector<std::byte>());
    EXPECT_BACK(db, of("int4"), std::optional<int>());
    EXPECT_BACK(db, of("int4"), std::optional<int>(7));
    EXPECT_BACK(db, of("text"), std::optional<std::string>(""));
    EXPECT_BACK(db, of("int2"), color::blue);
    EXPECT_BACK(db, of("int8"), deep::least);
    EXPECT_BACK(db, of("int2"), std::optional<color>(color::red));
    EXPECT_BACK(db, of("timestamptz"), at(2026, 1, 31, 12h + 1us));
    EXPECT_BACK(db, of("timestamptz"), at(1, 1, 1));
    EXPECT_BACK(db, of("timestamptz"), at(9999, 12, 31, 23h + 59min + 59s + 999999us));
    EXPECT_BACK(db, of("timestamptz"), at(1969, 12, 31, 23h + 59min + 59s + 500000us));
    EXPECT_BACK(db, of("timestamp"), at(1900, 2, 28, 1us));
    EXPECT_BACK(db, of("timestamptz"), sys_seconds(-1s));
    EXPECT_BACK(db, of("timestamptz"), sys_time<milliseconds>(1234567890123ms));
    EXPECT_BACK(db, of("timestamptz"), sys_time<hours>(10h));
    EXPECT_BACK(db, of("timestamptz"), std::optional<micros>());
    EXPECT_BACK(db, of("date"), sys_days(year(2024) / 2 / 29));
    EXPECT_BACK(db, of("date"), sys_days(year(1) / 1 / 1));
    EXPECT_BACK(db, of("date"), year(2024) / 2 / 29);
    EXPECT_BACK(db, of("date"), sys_days(year(9999) / 12 / 31));
    EXPECT_BACK(db, of("uuid"), sql::uuid::random());
    EXPECT_BACK(db, of("uuid"), sql::uuid());
    EXPECT_BACK(db, of("numeric"), sql::numeric("-0.000000000000000000000000000000000000000000000000000000000001"));
    EXPECT_BACK(db, of("numeric"), sql::numeric(std::string(100, '7') + "." + std::string(100, '3')));
    EXPECT_BACK(db, of("numeric"), sql::numeric("10000000000000000000000000000000000000000000000.00010000"));
    EXPECT_BACK(db, of("numeric"), std::optional<sql::numeric>());
    const nlohmann::json tree = {{"a", {1, 2.5, nullptr, true}}, {"b\"\\", "\u00fc"}, {"c", {{"d", "{}"}}}};
    EXPECT_BACK(db, of("json"), tree);
    EXPECT_BACK(db, of("jsonb"), tree);
    EXPECT_BACK(db, of("jsonb"), nlohmann::json(nullptr));
    EXPECT_BACK(db, of("jsonb"), std::optional<nlohmann::json>());
    // A double with all its digits, and as a text.
    const sql::rows text = co_await db.query("SELECT 0.1 AS v");
    EXPECT_EQ(text[0][0].as<sql::numeric>(), sql::numeric("0.1"));
}

aio::coro<> arrays(sql::connection& db) {
    using strings = std::vector<std::optional<std::string>>;
    EXPECT_BACK(db, "int4[]", std::vector<int>{1, -2, 3});
    EXPECT_BACK(db, "int4[]", std::vector<int>());
    EXPECT_BACK(db, "int8[]", std::vector<std::optional<std::int64_t>>{5, std::nullopt});
    EXPECT_BACK(db, "bool[]", std::vector<bool>{true, false});
    EXPECT_BACK(db, "float8[]", std::vector<double>{0.1, 1e300, -std::numeric_limits<double>::infinity()});
    EXPECT_BACK(db, "text[]", strings{"", std::nullopt, "NULL", "null", "a,b", "{c}", "\"d\"", "\\e\\", " f ", "\n"});
    EXPECT_BACK(db, "bytea[]",
        std::vector<std::vector<std::byte>>{{}, {std::byte{0}, std::byte{255}}, {std::byte{'"'}, std::byte{'\\'}}});
    EXPECT_BACK(db, "int4[]", std::vector<std::vector<int>>{{1, 2}, {3, 4}});
    EXPECT_BACK(db, "text[]", std::vector<strings>{{"}", "{"}, {"\"", std::nullopt}});
    EXPECT_BACK(db, "int4[]", std::vector<std::vector<std::vector<int>>>{{{1}, {2}}, {{3}, {4}}});
    EXPECT_BACK(db, "timestamptz[]", std::vector<micros>{at(2000, 1, 1, 1us), at(1, 1, 1)});
    EXPECT_BACK(db, "date[]", std::vector<std::optional<sys_days>>{sys_days(), std::nullopt});
    EXPECT_BACK(db, "uuid[]", std::vector<sql::uuid>{sql::uuid::random(), sql::uuid()});
    EXPECT_BACK(db, "numeric[]",
        std::vector<sql::numeric>{1, sql::numeric("-2.50"), sql::numeric("NaN"), sql::numeric("Infinity")});
    EXPECT_BACK(db, "jsonb[]", std::vector<nlohmann::json>{{{"a", 1}}, "text, with \"quotes\"", nullptr});
    EXPECT_BACK(db, "int2[]", std::vector<color>{color::red, color::blue});
    EXPECT_BACK(db, "int4[]", std::optional<std::vector<int>>());
    const sql::rows rows = co_await db.query(
        "SELECT '[0:1]={5,6}'::int[], ARRAY[1,NULL]::int[] AS holes, 7 AS seven, $1 = ANY(ARRAY['x', 'y']) AS found",
        "y");
    EXPECT_EQ(rows[0][0].as<std::vector<int>>(), (std::vector<int>{5, 6}));
    EXPECT_CONTAINS(what([&] { return rows[0]["holes"].as<std::vector<int>>(); }), "column 'holes': NULL");
    EXPECT_CONTAINS(what([&] { return rows[0]["seven"].as<std::vector<int>>(); }), "column 'seven': '7' is no array");
    EXPECT_TRUE(rows[0]["found"].as<bool>());
    const std::vector<int> ids{2, 3};
    EXPECT_EQ((co_await db.query("SELECT x FROM generate_series(1, 5) x WHERE x = ANY($1)", ids)).size(), 2u);
}

struct user {
    int id = 0;
    std::string name;
    std::optional<int> age;
    color shade = color::red;
};

struct wide {
    int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16;
    std::optional<std::string> b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14;
    std::vector<std::byte> c1;
    sql::numeric c2;
};

}  // namespace

AIO_REAL_TEST("SQLite: every type comes back as it went in") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await common_types(db, false);
    // Times are text that SQLite's own functions read, with whatever precision they have.
    const auto nanos = sys_time<nanoseconds>(1'700'000'000'123'456'789ns);
    EXPECT_BACK(db, "", nanos);
    const sql::rows rows = co_await db.query(
        "SELECT $1, strftime('%s', $1), CURRENT_TIMESTAMP, unixepoch($1), "
        "date($2), $2, '2026-01-31T12:00:00Z', '2026-01-31 12:00'",
        at(2026, 1, 31, 12h + 500ms), sys_days(2026y / 1 / 31));
    EXPECT_EQ(rows[0][0].as<std::string>(), "2026-01-31 12:00:00.5");
    EXPECT_EQ(rows[0][1].as<std::int64_t>(), 1769860800);
    EXPECT_GT(rows[0][2].as<sys_seconds>(), at(2020, 1, 1));
    EXPECT_EQ(rows[0][3].as<sys_seconds>(), at(2026, 1, 31, 12h));
    EXPECT_EQ(rows[0][4].as<std::string>(), "2026-01-31");
    EXPECT_EQ(rows[0][5].as<micros>(), at(2026, 1, 31));
    EXPECT_EQ(rows[0][6].as<sys_seconds>(), at(2026, 1, 31, 12h));
    EXPECT_EQ(rows[0][7].as<sys_seconds>(), at(2026, 1, 31, 12h));
}

AIO_REAL_TEST("SQLite: what it cannot hold is refused with a reason") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const auto refusal = [&db](sql::parameter p) -> aio::coro<std::string> {
        try {
            co_await db.query("SELECT $1", p);
        } catch (const std::invalid_argument& e) { co_return e.what(); }
        co_return "nothing";
    };
    const std::vector<int> array{1};
    EXPECT_CONTAINS(co_await refusal(array), "json_each");
    EXPECT_CONTAINS(co_await refusal(at(-1, 1, 1)), "years 1 to 9999");
    EXPECT_CONTAINS(co_await refusal(at(10000, 1, 1)), "years 1 to 9999");
    EXPECT_CONTAINS(co_await refusal(sys_days(year(10000) / 1 / 1)), "years 1 to 9999");
    EXPECT_CONTAINS(co_await refusal(std::nan("")), "NaN");
}

AIO_REAL_TEST("PostgreSQL: every type comes back as it went in, whatever the session's time zone") {
    NEEDS_POSTGRES();
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    // A statement that is used again is prepared, and its rows come in the binary format where that is cheaper.
    for (int i = 0; i < 3; ++i) {
        co_await common_types(db, true);
        co_await arrays(db);
    }
    for (const char* zone : {"UTC", "Asia/Kolkata", "America/New_York", "Europe/Amsterdam"}) {
        co_await db.query(std::string("SET TIME ZONE '") + zone + "'");
        EXPECT_BACK(db, "timestamptz", at(2026, 7, 31, 12h + 1us));
        EXPECT_BACK(db, "timestamptz", at(1800, 1, 1, 3s));
        EXPECT_BACK(db, "timestamptz", at(1, 1, 1, 10h));
        EXPECT_BACK(db, "timestamptz", at(-4000, 2, 29, 10h));
    }
    EXPECT_BACK(db, "date", sys_days(year(-4000) / 2 / 29));
    const sql::rows rows = co_await db.query(
        "SELECT 'infinity'::timestamptz AS far, '-infinity'::date AS past, '294276-12-31'::timestamp AS late, "
        "'2026-01-31 23:59:59.999999'::timestamp AS last, 'NaN'::float8, 'NaN'::numeric, '0.1'::float4, 'x' AS x, "
        "'294276-12-31'::date - '1970-01-01' AS days");
    EXPECT_CONTAINS(what([&] { return rows[0]["far"].as<micros>(); }), "column 'far': 'infinity' is no point in time");
    EXPECT_CONTAINS(what([&] { return rows[0]["past"].as<sys_days>(); }), "'-infinity' is no point in time");
    EXPECT_CONTAINS(what([&] { return rows[0]["late"].as<micros>(); }), "out of the range");
    EXPECT_CONTAINS(what([&] { return rows[0]["late"].as<sys_time<nanoseconds>>(); }), "out of the range");
    EXPECT_EQ(rows[0]["late"].as<sys_days>().time_since_epoch().count(), rows[0]["days"].as<int>());
    EXPECT_EQ(rows[0]["last"].as<sys_seconds>(), at(2026, 1, 31, 23h + 59min + 59s));
    EXPECT_EQ(rows[0]["last"].as<sys_days>(), sys_days(2026y / 1 / 31));
    EXPECT_TRUE(std::isnan(rows[0][4].as<double>()));
    EXPECT_TRUE(rows[0][5].as<sql::numeric>().is_nan());
    EXPECT_EQ(rows[0][6].as<float>(), 0.1f);
    EXPECT_CONTAINS(what([&] { return rows[0]["x"].as<sql::uuid>(); }), "column 'x': 'x' is no UUID");
    EXPECT_CONTAINS(what([&] { return rows[0]["x"].as<sql::numeric>(); }), "column 'x': 'x' is no decimal number");
    EXPECT_CONTAINS(what([&] { return rows[0]["x"].as<nlohmann::json>(); }), "column 'x': 'x' is no JSON");
    EXPECT_CONTAINS(what([&] { return rows[0]["x"].as<sys_days>(); }), "column 'x': 'x' is no time");
}

AIO_REAL_TEST("rows become structs, tuples and single values, by the order of their columns") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows =
        co_await db.query("SELECT 1 AS id, 'Ann' AS name, NULL AS age, 200 AS shade UNION ALL SELECT 2, 'Bob', 30, 1");
    const std::vector<user> users = rows.as<user>();
    AIO_REQUIRE(users.size() == 2);
    EXPECT_EQ(users[0].name, "Ann");
    EXPECT_EQ(users[0].age, std::nullopt);
    EXPECT_EQ(users[0].shade, color::blue);
    EXPECT_EQ(users[1].age, 30);
    const auto tuple = rows[1].as<std::tuple<int, std::string, std::optional<int>, color>>();
    EXPECT_EQ(std::get<1>(tuple), "Bob");
    const sql::rows ids = co_await db.query("SELECT 5 AS id UNION ALL SELECT 6");
    EXPECT_EQ(ids.as<int>(), (std::vector<int>{5, 6}));
    using pair = std::pair<int, std::string>;
    EXPECT_EQ((co_await db.query("SELECT 1, 'x'"))[0].as<pair>().second, "x");
    EXPECT_EQ(
        what([&] { return ids.as<user>(); }), "the row has 1 column (id), but the type that was asked for takes 4");
    EXPECT_EQ(what([&] { return rows[0].as<std::tuple<int>>(); }),
        "the row has 4 columns (id, name, age, shade), but the type that was asked for takes 1");
    EXPECT_CONTAINS(what([&] { return rows[0].as<std::tuple<int, std::string, int, int>>(); }), "column 'age': NULL");
    std::string many = "SELECT ";
    for (int i = 0; i < 16; ++i) many += std::to_string(i) + ", ";
    for (int i = 0; i < 14; ++i) many += i % 2 ? "NULL, " : "'b', ";
    const auto all = (co_await db.query(many + "x'00ff', '1.50'"))[0].as<wide>();
    EXPECT_EQ(all.a16, 15);
    EXPECT_EQ(all.b13, "b");
    EXPECT_EQ(all.b14, std::nullopt);
    EXPECT_EQ(all.c1.size(), 2u);
    EXPECT_EQ(all.c2.to_string(), "1.50");
}

PLAIN_TEST("decimal numbers compare by value and convert without loss") {
    using sql::numeric;
    EXPECT_EQ(numeric("1.0"), numeric("1.00"));
    EXPECT_EQ(numeric("-0"), numeric("0.00"));
    EXPECT_EQ(numeric("+007.50").to_string(), "7.50");
    EXPECT_EQ(numeric(".5").to_string(), "0.5");
    EXPECT_EQ(numeric("5.").to_string(), "5");
    EXPECT_EQ(numeric("1.25e3").to_string(), "1250");
    EXPECT_EQ(numeric("1.25e1").to_string(), "12.5");
    EXPECT_EQ(numeric("-125E-5").to_string(), "-0.00125");
    EXPECT_LT(numeric("-2"), numeric("-1.5"));
    EXPECT_LT(numeric("9.9"), numeric("10"));
    EXPECT_LT(numeric("0.09"), numeric("0.1"));
    EXPECT_LT(numeric("-Infinity"), numeric("-1e100"));
    EXPECT_LT(numeric("1e100"), numeric("inf"));
    EXPECT_LT(numeric("Infinity"), numeric("nan"));
    EXPECT_EQ(numeric("NaN"), numeric("nan"));
    EXPECT_EQ(numeric("-9223372036854775808.00").to_integer(), std::numeric_limits<std::int64_t>::min());
    EXPECT_THROW(numeric("9223372036854775808").to_integer(), std::invalid_argument);
    EXPECT_THROW(numeric("1.5").to_integer(), std::invalid_argument);
    EXPECT_THROW(numeric("NaN").to_integer(), std::invalid_argument);
    EXPECT_EQ(numeric("0.1").to_double(), 0.1);
    EXPECT_EQ(numeric("-1e400").to_double(), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(numeric("1e-400").to_double(), 0.0);
    for (const char* bad : {"", "-", "1.2.3", "abc", "1e", "1e+-5", "--1", "1 ", "0x10", "1e999999999999", "e5", "."})
        EXPECT_THROW(numeric{std::string_view(bad)}, std::invalid_argument) << bad;
}

PLAIN_TEST("a UUID is read in the forms that PostgreSQL takes, and in no other") {
    const std::string text = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    for (const char* form : {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
             "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11",
             "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"}) {
        EXPECT_EQ(sql::uuid(std::string_view(form)).to_string(), text) << form;
    }
    for (const char* bad : {"", "{}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
             "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
             "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-"}) {
        EXPECT_THROW(sql::uuid{std::string_view(bad)}, std::invalid_argument) << bad;
    }
    EXPECT_NE(sql::uuid::random(), sql::uuid::random());
    EXPECT_EQ(sql::uuid::random().to_string()[14], '4');
    EXPECT_EQ(std::hash<sql::uuid>()(sql::uuid(text)), std::hash<sql::uuid>()(sql::uuid(text)));
}

PLAIN_TEST("a time that is infinite, NaN or too far away is no parameter") {
    using double_seconds = sys_time<duration<double>>;
    EXPECT_THROW(sql::parameter(double_seconds(duration<double>(std::nan("")))), std::invalid_argument);
    EXPECT_THROW(sql::parameter(double_seconds(duration<double>(1e300))), std::invalid_argument);
    EXPECT_THROW(sql::parameter(year(2026) / 2 / 29), std::invalid_argument);
    EXPECT_EQ(sql::parameter(double_seconds(duration<double>(1.5))).bytes(), "1970-01-01 00:00:01.5+00");
    EXPECT_EQ(sql::parameter(micros::min()).bytes(), "290309-12-21 19:59:05.224192+00 BC");
    EXPECT_EQ(sql::parameter(sys_time<nanoseconds>::max()).bytes(), "2262-04-11 23:47:16.854775807+00");
}

// What PostgreSQL sends in binary format, made here by its send functions, reads as its text does.
AIO_REAL_TEST("PostgreSQL: a value in binary format reads as its text") {
    NEEDS_POSTGRES();
    auto& db = co_await aio::enter(sql::connect(postgres_url()));
    co_await db.query("SET TIME ZONE 'UTC'");
    struct sample {
        const char* type;
        const char* send;
        const char* value;
    };
    constexpr sample samples[] = {{"bool", "boolsend", "true"}, {"int2", "int2send", "-32768"},
        {"int4", "int4send", "2147483647"}, {"int8", "int8send", "-9223372036854775808"},
        {"oid", "oidsend", "4294967295"}, {"float4", "float4send", "0.1"}, {"float4", "float4send", "1e6"},
        {"float4", "float4send", "123456"}, {"float8", "float8send", "5e-324"}, {"float8", "float8send", "1e15"},
        {"float8", "float8send", "-0.0001"}, {"float8", "float8send", "100000"}, {"float8", "float8send", "1e-05"},
        {"float8", "float8send", "NaN"}, {"float8", "float8send", "-Infinity"}, {"text", "textsend", "a\"b"},
        {"bytea", "byteasend", "\\x00ff"}, {"date", "date_send", "0001-01-01"}, {"date", "date_send", "4713-01-01 BC"},
        {"date", "date_send", "infinity"}, {"date", "date_send", "5874897-12-31"},
        {"time", "time_send", "23:59:59.999999"}, {"time", "time_send", "24:00:00"},
        {"timestamp", "timestamp_send", "9999-12-31 23:59:59.999999"}, {"timestamp", "timestamp_send", "-infinity"},
        {"timestamp", "timestamp_send", "0044-03-15 12:00:00 BC"},
        {"timestamp", "timestamp_send", "294276-12-31 00:00:00"},
        {"timestamptz", "timestamptz_send", "2026-01-31 12:00:00.5+00"},
        {"timestamptz", "timestamptz_send", "1969-12-31 23:59:59.25+00"}, {"numeric", "numeric_send", "0"},
        {"numeric", "numeric_send", "0.00"}, {"numeric", "numeric_send", "-12345678901234567890.00010000"},
        {"numeric", "numeric_send", "0.00000000000012"}, {"numeric", "numeric_send", "100000000000000000000"},
        {"numeric", "numeric_send", "10000"}, {"numeric", "numeric_send", "NaN"},
        {"numeric", "numeric_send", "-Infinity"}, {"uuid", "uuid_send", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
        {"jsonb", "jsonb_send", "{\"a\": [1, null]}"}, {"json", "json_send", "{\"a\":1}"},
        {"int4[]", "array_send", "{1,NULL,3}"}, {"int4[]", "array_send", "{}"},
        {"text[]", "array_send", "{\"a,b\",\"\\\"\",NULL,\"NULL\",\"\"}"}, {"int4[]", "array_send", "{{1,2},{3,NULL}}"},
        {"bytea[]", "array_send", "{\"\\\\x00ff\"}"}, {"numeric[]", "array_send", "{1.50,NaN}"},
        {"timestamp[]", "array_send", "{\"2026-01-31 12:00:00\"}"}};
    for (const sample& s : samples) {
        const std::string type = s.type;
        const sql::rows rows = co_await db.query(
            "SELECT '" + type + "'::regtype::oid, " + s.send + "($1::" + type + "), $1::" + type + "::text", s.value);
        const auto oid = rows[0][0].as<std::uint32_t>();
        const auto bytes = rows[0][1].as<std::vector<std::byte>>();
        auto t = std::make_shared<sql::table>();
        t->columns = {"v"};
        t->types = {oid};
        sql::add_binary_value(*t, oid, reinterpret_cast<const char*>(bytes.data()), bytes.size());
        t->row_count = 1;
        const sql::field field = sql::rows(t)[0][0];
        EXPECT_TRUE(sql::reads_binary(oid) || type == "timestamptz") << type;
        if (type.ends_with("[]")) {
            const sql::rows text = co_await db.query("SELECT $1::" + type, s.value);
            if (std::string(s.value).starts_with("{{")) {
                using grid = std::vector<std::vector<std::optional<std::string>>>;
                EXPECT_EQ(field.as<grid>(), text[0][0].as<grid>()) << s.value;
            } else {
                using strings = std::vector<std::optional<std::string>>;
                EXPECT_EQ(field.as<strings>().size(), text[0][0].as<strings>().size()) << s.value;
                if (type != "bytea[]") { EXPECT_EQ(field.as<strings>(), text[0][0].as<strings>()) << s.value; }
            }
            EXPECT_EQ(
                (co_await db.query("SELECT $1::" + type + " = $2::" + type, field.as<std::string>(), s.value))[0][0]
                    .as<bool>(),
                true)
                << s.value;
        } else if (type == "bytea") {
            EXPECT_EQ(field.as<std::vector<std::byte>>().size(), 2u);
        } else {
            EXPECT_EQ(field.as<std::string>(), rows[0][2].as<std::string>()) << type;
        }
        // A value that is cut short is refused, and nothing beyond it is read.
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const std::vector<char> cut(
                reinterpret_cast<const char*>(bytes.data()), reinterpret_cast<const char*>(bytes.data()) + size);
            try {
                static_cast<void>(sql::text_of_binary(oid, std::string_view(cut.data(), cut.size())));
            } catch (const std::invalid_argument&) {}
        }
    }
}
