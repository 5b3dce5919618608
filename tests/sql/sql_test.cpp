// Tests of aio::sql with SQLite, which needs no server, and of what is the same for every database.
#include "sql_test.hpp"

#include "loop/loop_state.hpp"
#include "loop/process_threads.hpp"
#include "sql/driver.hpp"

#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include <unistd.h>

namespace {

namespace sql = aio::sql;
using aio_test::contains;
using aio_test::count;

/// A temporary folder, which the destructor removes.
class temporary_folder {
public:
    temporary_folder() {
        std::string name = (std::filesystem::temp_directory_path() / "aio_sql_XXXXXX").string();
        if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
        path_ = name;
    }
    ~temporary_folder() {
        std::error_code ignored;  // a connection that was dropped may be removing its files, too
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
    std::string url(const std::string& file) const { return "sqlite:///" + (path_ / file).string(); }
    std::filesystem::path path_;
};

/// The text of the error that an operation throws, or "nothing".
template<class Awaitable>
aio::coro<std::string> error_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const std::exception& e) { co_return e.what(); }
    co_return "nothing";
}
aio::coro<std::string> code_of(aio::coro<sql::rows> operation) {
    try {
        co_await std::move(operation);
    } catch (const sql::error& e) { co_return e.code(); }
    co_return "nothing";
}
template<class F>
std::string what(F fn) {
    try {
        static_cast<void>(fn());
    } catch (const std::exception& e) { return e.what(); }
    return "nothing";
}

/// Counts the tasks that have not ended, those of the library, too, such as a pool's attempts to connect.
std::size_t tasks_alive() {
    std::size_t n = 0;
    auto& tasks = aio::detail::local().loop->tasks;
    for (auto* t = tasks.front(); t; t = tasks.after(*t)) ++n;
    return n;
}

constexpr const char* endless =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";

}  // namespace

// ---- ordinary use ----

AIO_REAL_TEST("a table is made, filled and read, with parameters, by name and by number") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)");
    sql::rows inserted = co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 7, "Ann", 30);
    EXPECT_EQ(inserted.affected(), 1u);
    EXPECT_TRUE(inserted.empty());
    const std::string name = "Bob";
    co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 8, name, std::optional<int>());

    sql::rows rows = co_await db.query("SELECT * FROM users WHERE id = $1", 7);
    AIO_REQUIRE(rows.size() == 1);
    EXPECT_EQ(rows[0]["name"].as<std::string>(), "Ann");
    EXPECT_EQ(rows[0][2].as<int>(), 30);
    EXPECT_EQ(rows.affected(), 0u);
    EXPECT_EQ(rows.columns(), (std::vector<std::string>{"id", "name", "age"}));

    std::string names;
    const sql::rows all = co_await db.query("SELECT name, age FROM users ORDER BY id");
    for (const sql::row& row : all) names += row["name"].as<std::string>() + (row["age"].is_null() ? "?" : "") + " ";
    for (auto& row : all) names += row[0].name();
    EXPECT_EQ(names, "Ann Bob? namename");
    EXPECT_EQ(all[1]["age"].as<std::optional<int>>(), std::nullopt);

    EXPECT_EQ((co_await db.query("UPDATE users SET age = 1")).affected(), 2u);
    EXPECT_EQ((co_await db.query("SELECT 1")).affected(), 0u);
    EXPECT_EQ((co_await db.query("DELETE FROM users WHERE id = 9")).affected(), 0u);
    EXPECT_EQ((co_await db.query("DELETE FROM users RETURNING id")).affected(), 2u);
}

AIO_REAL_TEST("rows, a row and a field outlive the query and the connection") {
    auto field = [](aio::coro<sql::rows> query) -> aio::coro<sql::field> {
        co_return (co_await std::move(query))[0][0];
    };
    std::optional<sql::field> kept;
    co_await aio::with(sql::connect("sqlite::memory:"),
        [&](sql::connection& db) -> aio::coro<> { kept = co_await field(db.query("SELECT 'still here'")); });
    EXPECT_EQ(kept->as<std::string>(), "still here");
}

AIO_REAL_TEST("every type comes back as it went in") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const std::string unicode = "Grüße, 世界, \U0001F600";
    const std::string large(5'000'000, 'x');
    const std::string with_zero("a\0b", 3);
    const std::vector<std::byte> bytes{std::byte{0}, std::byte{255}, std::byte{1}};
    const std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       most = std::numeric_limits<std::int64_t>::max();
    const sql::rows rows = co_await db.query("SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13", least,
        most, 0.1, true, unicode, large, with_zero, bytes, nullptr, std::optional<int>(5), std::nullopt, "",
        std::vector<std::byte>());
    const sql::row row = rows[0];
    EXPECT_EQ(row[0].as<std::int64_t>(), least);
    EXPECT_EQ(row[1].as<std::int64_t>(), most);
    EXPECT_EQ(row[1].as<std::uint64_t>(), static_cast<std::uint64_t>(most));
    EXPECT_EQ(row[2].as<double>(), 0.1);
    EXPECT_TRUE(row[3].as<bool>());
    EXPECT_EQ(row[4].as<std::string>(), unicode);
    EXPECT_EQ(row[5].as<std::string>(), large);
    EXPECT_EQ(row[6].as<std::string>(), with_zero);
    EXPECT_EQ(row[7].as<std::vector<std::byte>>(), bytes);
    EXPECT_TRUE(row[8].is_null());
    EXPECT_EQ(row[9].as<std::optional<int>>(), 5);
    EXPECT_TRUE(row[10].is_null());
    EXPECT_FALSE(row[11].is_null());
    EXPECT_EQ(row[11].as<std::string>(), "");
    EXPECT_FALSE(row[12].is_null());
    EXPECT_TRUE(row[12].as<std::vector<std::byte>>().empty());
    EXPECT_EQ(row[0].as<std::string>(), "-9223372036854775808");
    EXPECT_EQ(row[2].as<std::string>(), "0.1");
    EXPECT_EQ(row[3].as<unsigned char>(), 1);
}

AIO_REAL_TEST("numbers are read from text, and whole ones from floating point") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows =
        co_await db.query("SELECT '12', '12.50', 12.0, 'true', '18446744073709551615', '12.00', 'Infinity'");
    EXPECT_EQ(rows[0][0].as<int>(), 12);
    EXPECT_EQ(rows[0][1].as<double>(), 12.5);
    EXPECT_EQ(rows[0][2].as<short>(), 12);
    EXPECT_EQ(rows[0][2].as<std::string>(), "12.0");
    EXPECT_TRUE(rows[0][3].as<bool>());
    EXPECT_EQ(rows[0][4].as<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(rows[0][5].as<int>(), 12);
    EXPECT_EQ(rows[0][6].as<double>(), std::numeric_limits<double>::infinity());
}

AIO_REAL_TEST("a value that does not fit is an invalid_argument that names the column") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows = co_await db.query(
        "SELECT 300 AS big, 'abc' AS word, NULL AS none, 1.5 AS half, -1 AS below, x'00' AS raw, 1e300 AS huge");
    const sql::row row = rows[0];
    EXPECT_THROW(row["big"].as<std::int8_t>(), std::invalid_argument);
    EXPECT_EQ(what([&] { return row["big"].as<std::uint8_t>(); }),
        "column 'big': '300' does not fit into an unsigned integer of 8 bits");
    EXPECT_EQ(what([&] { return row["word"].as<int>(); }),
        "column 'word': 'abc' is no whole number, for a signed integer of 32 bits");
    EXPECT_EQ(what([&] { return row["word"].as<double>(); }), "column 'word': 'abc' is no number, for a double");
    EXPECT_EQ(what([&] { return row["word"].as<bool>(); }), "column 'word': 'abc' is no truth value, for a bool");
    EXPECT_CONTAINS(what([&] { return row["none"].as<int>(); }), "column 'none': NULL");
    EXPECT_CONTAINS(what([&] { return row["none"].as<double>(); }), "column 'none': NULL");
    EXPECT_CONTAINS(what([&] { return row["none"].as<bool>(); }), "column 'none': NULL");
    EXPECT_CONTAINS(what([&] { return row["none"].as<std::string>(); }), "column 'none': NULL");
    EXPECT_CONTAINS(what([&] { return row["none"].as<std::vector<std::byte>>(); }), "column 'none': NULL");
    EXPECT_EQ(what([&] { return row["half"].as<int>(); }),
        "column 'half': '1.5' is no whole number, for a signed integer of 32 bits");
    EXPECT_EQ(what([&] { return row["below"].as<unsigned>(); }),
        "column 'below': '-1' does not fit into an unsigned integer of 32 bits");
    EXPECT_EQ(what([&] { return row["raw"].as<int>(); }),
        "column 'raw': bytes are no number, for a signed integer of 32 bits");
    EXPECT_CONTAINS(what([&] { return row["huge"].as<std::int64_t>(); }), "column 'huge': '1e+300' does not fit");
    EXPECT_CONTAINS(what([&] { return row["huge"].as<float>(); }), "does not fit into a float");
    EXPECT_CONTAINS(what([&] { return row["big"].as<std::vector<std::byte>>(); }), "column 'big'");
}

AIO_REAL_TEST("text is a truth value or a number only where all of it says so") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows truths = co_await db.query("SELECT 't', 'true', '1', 'f', 'false', '0'");
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(truths[0][i].as<bool>(), i < 3) << i;
    const sql::rows numbers = co_await db.query("SELECT '12x' AS more, '1.5' AS whole");
    EXPECT_EQ(what([&] { return numbers[0]["more"].as<double>(); }), "column 'more': '12x' is no number, for a double");
    EXPECT_EQ(numbers[0]["whole"].as<double>(), 1.5);
}

AIO_REAL_TEST("a row or column that is not there is an out_of_range that says what is") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows = co_await db.query("SELECT 1 AS id, 2 AS age");
    EXPECT_EQ(what([&] { return rows[0]["name"]; }), "there is no column 'name': the row has id, age");
    EXPECT_EQ(what([&] { return rows[0][2]; }), "there is no column 2: the row has 2 (id, age), the first is 0");
    EXPECT_EQ(what([&] { return rows[1]; }), "there is no row 1: the query gave 1");
    EXPECT_EQ(what([&] { return sql::rows()[0]; }), "there is no row 0: the query gave 0");
}

AIO_REAL_TEST("several statements at once run one after the other and give the last one's rows") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows =
        co_await db.query("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2); -- two rows\n SELECT x FROM t;");
    EXPECT_EQ(rows.size(), 2u);
    EXPECT_EQ((co_await db.query("")).size(), 0u);
    EXPECT_EQ((co_await db.query("-- nothing")).size(), 0u);
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT $1; SELECT 2", 1)), "can have no parameters");
}

AIO_REAL_TEST("parameters may be used twice and in any order; their number must be right") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const sql::rows rows = co_await db.query("SELECT $2, $1, $2", "a", "b");
    EXPECT_EQ(rows[0][0].as<std::string>() + rows[0][1].as<std::string>() + rows[0][2].as<std::string>(), "bab");
    EXPECT_EQ((co_await db.query("SELECT ?, ?", 1, 2))[0][1].as<int>(), 2);
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT $1")), "the statement has 1 parameters, but 0 were given");
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT $1", 1, 2)), "the statement has 1 parameters, but 2 were given");
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT :name", 1)), "a parameter has a name");
}

// ---- errors ----

PLAIN_TEST("an unknown scheme or a URL without a file is an invalid_argument that shows no password") {
    const std::string unknown = what([] { return sql::connect("mysql://me:hidden@host/db"); });
    EXPECT_CONTAINS(unknown, "unknown scheme 'mysql'");
    EXPECT_CONTAINS(unknown, "postgresql://");
    EXPECT_CONTAINS(unknown, "sqlite::memory:");
    EXPECT_FALSE(contains(unknown, "hidden"));
    EXPECT_CONTAINS(what([] { return sql::connect("file.db"); }), "no scheme");
    EXPECT_CONTAINS(what([] { return sql::connect(""); }), "no scheme");
    EXPECT_CONTAINS(what([] { return sql::connect("sqlite:file.db"); }), "'sqlite:file.db' names no file");
    EXPECT_CONTAINS(what([] { return sql::connect("sqlite:///"); }), "names no file");
    EXPECT_THROW(static_cast<void>(sql::connect("sqlite://host/file.db")), std::invalid_argument);
    for (const char* url :
        {"postgresql://me:hidden@host:port/db", "postgresql://me:hid/den@host/db", "postgresql://me:hid@den@h/?x=1",
            "postgresql://host/db?password=hidden&nonsense=1", "postgresql://me:hidden@[::1/db"}) {
        const std::string text = what([&] { return sql::connect(url); });
        EXPECT_CONTAINS(text, "makes no sense");
        EXPECT_FALSE(contains(text, "hid")) << text;
    }
    EXPECT_CONTAINS(what([] { return sql::connect("postgresql://host/db?nonsense=1"); }), "nonsense");
}

AIO_REAL_TEST("postgres:// is the same scheme as postgresql://") {
    std::string text;
    try {
        static_cast<void>(co_await aio::enter(sql::connect("postgres://127.0.0.1:1/none")));
    } catch (const sql::error& e) { text = e.what(); }
    EXPECT_CONTAINS(text, "127.0.0.1");
}

PLAIN_TEST("fault N15: a password is masked, however its key is written and wherever it stands") {
    for (const char* url :
        {"postgresql://host/db?passwor%64=hidden&nonsense=1", "postgresql://host/db?%70assword=hidden&nonsense=1",
            "postgresql://host:5432/db?password=x@hidden&nonsense=1",
            "postgresql://host/db?sslpassword=hidden&nonsense=1", "postgresql://host/db?PassWord=hidden",
            "postgresql://host/db?nonsense=1&password=hidden&x@y", "postgresql://host/db?password=a&hidden",
            "postgresql://host/db?passwor%64=a?hidden&nonsense=1", "postgresql://me:a?hidden@host:port/db",
            "postgresql://me:a@b:hidden@host:port/db?x=1", "postgresql://me:password=hidden@host:port/db",
            "sqlite:file.db?password=hidden", "sqlite://me:hidden@host/file"}) {
        const std::string text = what([&] { return sql::connect(url); });
        EXPECT_NE(text, "nothing") << url;
        EXPECT_FALSE(contains(text, "hidden")) << text;
        EXPECT_EQ(what([&] { return sql::pool(url), 0; }), text);
    }
    EXPECT_EQ(sql::without_password("postgresql://me:hidden@host:1/db?x=1&passwor%64=hidden&y=2"),
        "postgresql://me:***@host:1/db?x=1&passwor%64=***");
    EXPECT_EQ(sql::without_password("postgresql://me@[::1]:5/db?x=1"), "postgresql://me@[::1]:5/db?x=1");
    EXPECT_EQ(sql::without_password("postgresql://host:5/db?password=a@b"), "postgresql://host:***");
    EXPECT_EQ(sql::without_password("sqlite:///x%6"), "sqlite:///x%6");
}

PLAIN_TEST("fault N5: a NUL in a database URL is an invalid_argument that names it") {
    using namespace std::string_literals;
    for (const std::string& url : {"sqlite:///a.db\0b"s, "postgresql://host/db\0b"s,
             "postgresql://host/db?application_name=a\0b"s, "sqlite::memory:\0"s, "postgresql://ho\0st/db"s, "\0"s}) {
        EXPECT_EQ(what([&] { return sql::connect(url); }), "a database URL holds a NUL byte");
        EXPECT_THROW(static_cast<void>(sql::connect(url)), std::invalid_argument);
        EXPECT_THROW(sql::pool{url}, std::invalid_argument);
    }
    EXPECT_THROW(static_cast<void>(sql::connect("postgresql://host/db%00b")), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(sql::connect("postgresql://host/db?application_name=a%00b")), std::invalid_argument);
}

AIO_REAL_TEST(
    "fault N5: a NUL in a statement, of a stream or in a transaction too, is an invalid_argument that names it") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    const std::string statement("SELECT 1\0; DROP TABLE t", 22);
    EXPECT_EQ(co_await error_of(db.query(statement)), "a statement holds a NUL byte");
    EXPECT_THROW(static_cast<void>(co_await db.query(statement)), std::invalid_argument);
    auto rows = db.stream(statement);
    EXPECT_THROW(co_await rows.next(), std::invalid_argument);
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST(
    "fault N8: what() of SQLite's errors has no parameter and no literal; the accessors have the names and everything "
    "else") {
    const temporary_folder folder;
    auto& db = co_await aio::enter(sql::connect(folder.url("n8.db")));
    co_await db.query(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (name <> 'hidden x'), "
        "CONSTRAINT short CHECK (length(name) < 10))");
    co_await db.query("CREATE UNIQUE INDEX by_upper ON t (upper(name))");
    co_await db.query("INSERT INTO t VALUES (1, 'hidden')");
    for (const char* statement : {"SELECT 'hidden' FORM t 'hidden'", "SELECT 'O'hidden'", "SELECT 'hidden",
             "SELECT #hidden", "SELECT json('{hidden')", "SELECT json_extract('{}', 'hidden')",
             "ATTACH '/hidden/hidden.db' AS other", "SELECT 1 FROM \"hidden\"", "INSERT INTO t VALUES (2, 'hidden')",
             "INSERT INTO t VALUES (3, 'hidden x')", "INSERT INTO t VALUES (4, 'HIDDEN')",
             "INSERT INTO t VALUES (4, 'hidden and long')", "SELECT load_extension('hidden')",
             "SELECT abs(-9223372036854775808) WHERE 'hidden' <> ''", "INSERT INTO t VALUES ('hidden', 'b')"}) {
        std::optional<sql::error> e;
        try {
            co_await db.query(statement);
        } catch (const sql::error& error) { e = error; }
        AIO_REQUIRE(e);
        EXPECT_FALSE(contains(e->what(), "hidden")) << e->what();
        EXPECT_FALSE(contains(e->what(), "HIDDEN")) << e->what();
        EXPECT_CONTAINS(e->what(), e->code());
        EXPECT_EQ(e->statement(), statement);
        EXPECT_FALSE(e->message().empty());
    }
    auto names_of = [&](std::string statement) -> aio::coro<std::string> {
        try {
            co_await db.query(std::move(statement));
        } catch (const sql::error& e) { co_return e.constraint() + "|" + e.table() + "|" + e.column(); }
        co_return "nothing";
    };
    EXPECT_EQ(co_await names_of("INSERT INTO t VALUES (1, 'a')"), "|t|id");
    EXPECT_EQ(co_await names_of("INSERT INTO t VALUES (2, 'HIDDEN')"), "by_upper||");
    co_await db.query("DROP INDEX by_upper");
    EXPECT_EQ(co_await names_of("INSERT INTO t VALUES (2, 'hidden')"), "|t|name");
    EXPECT_EQ(co_await names_of("INSERT INTO t VALUES (2, NULL)"), "|t|name");
    EXPECT_EQ(co_await names_of("INSERT INTO t VALUES (2, 'much too long')"), "short||");
    EXPECT_EQ(co_await error_of(db.query("SELECT * FROM nowhere")), "no such table: nowhere (SQLITE_ERROR)");
    EXPECT_EQ(co_await error_of(db.query("SELECT missing FROM t")), "no such column: missing (SQLITE_ERROR) at byte 8");
}

PLAIN_TEST("fault N10: statements and parameters that are too large are refused, naming the limit") {
    const sql::size_limits most{"The database", 10, 20, 300, 4};
    const auto check = [&](const std::string& statement, const std::vector<sql::parameter>& parameters) {
        return what([&] {
            sql::check_sizes(statement, parameters, most);
            return 0;
        });
    };
    const std::string twenty(20, 'x'), more(21, 'x');
    const std::vector<std::byte> bytes(21);
    EXPECT_EQ(check(std::string(10, 'x'), {twenty, 1, nullptr, twenty}), "nothing");
    EXPECT_EQ(check(std::string(11, 'x'), {}), "the statement has 11 bytes: The database takes at most 10");
    EXPECT_EQ(check("", {1, more}), "the value of $2 has 21 bytes: The database takes at most 20");
    EXPECT_EQ(check("", {bytes}), "the value of $1 has 21 bytes: The database takes at most 20");
    EXPECT_EQ(check("", {1, 2, 3, 4, 5}), "5 parameters were given: The database takes at most 4");
    const sql::size_limits together{"It", 10, 20, 130, 4};
    EXPECT_EQ(what([&] { return sql::check_sizes("", {twenty, twenty}, together), 0; }),
        "the parameters have together 136 bytes: It takes at most 130");
}

AIO_REAL_TEST("fault N23: a SQLite path that looks like a URI is a file name") {
    const temporary_folder folder;
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path_);
    for (const char* name : {"file:x?mode=memory", "file:y", ":memory:z", "FILE:w?mode=ro"}) {
        co_await aio::with(sql::connect(std::string("sqlite:///") + name),
            [](sql::connection& db) { return db.query("CREATE TABLE t (x)"); });
        EXPECT_TRUE(std::filesystem::exists(folder.path_ / name)) << name;
    }
    std::filesystem::current_path(before);
}

AIO_REAL_TEST("fault N23: a COMMIT or ROLLBACK written by hand inside transaction() is told for what it was") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    for (const char* by_hand : {"ROLLBACK", "COMMIT", "SELECT 1; END"}) {
        for (const bool writes : {true, false}) {
            const char* const told = by_hand[0] != 'R' ? "has been committed already" : "has been rolled back already";
            std::string inside, at_end, code;
            auto body = [&]() -> aio::coro<> {
                if (writes) co_await db.query("INSERT INTO t VALUES (1)");
                co_await db.query(by_hand);
                inside = co_await error_of(db.query("INSERT INTO t VALUES (2)"));
            };
            try {
                co_await aio::with(db.transaction(), body);
            } catch (const sql::error& e) {
                at_end = e.what();
                code = e.code();
            }
            EXPECT_CONTAINS(inside, told);
            EXPECT_CONTAINS(at_end, told);
            EXPECT_EQ(code, by_hand[0] != 'R' ? "SQLITE_MISUSE" : "SQLITE_ABORT_ROLLBACK");
        }
    }
    EXPECT_EQ(co_await count(db, "t"), 2);
}

AIO_REAL_TEST("fault P7: parameters may be given as a vector, to a query, a stream and a pool") {
    sql::pool pool("sqlite::memory:");
    std::vector<sql::parameter> parameters;
    parameters.emplace_back(1);
    parameters.emplace_back("two");
    EXPECT_EQ((co_await pool.query("SELECT $2, $1", parameters))[0][0].as<std::string>(), "two");
    auto db = co_await pool.acquire();
    EXPECT_EQ((co_await db->query("SELECT $1, $2", parameters))[0][0].as<int>(), 1);
    EXPECT_EQ((co_await db->query("SELECT 3", std::vector<sql::parameter>()))[0][0].as<int>(), 3);
    auto rows = db->stream("SELECT $1, $2", std::move(parameters));
    EXPECT_EQ((*co_await rows.next())[1].as<std::string>(), "two");
}

AIO_REAL_TEST("a file that cannot be opened is an error that names it and says why") {
    const temporary_folder folder;
    std::string text, code;
    try {
        auto connecting = sql::connect(folder.url("missing/file.db"));
        co_await connecting.enter();
    } catch (const sql::error& e) {
        text = e.what();
        code = e.code();
    }
    EXPECT_CONTAINS(text, "missing/file.db': unable to open database file: No such file or directory");
    EXPECT_EQ(code, "SQLITE_CANTOPEN");

    std::ofstream(folder.path_ / "text") << std::string(2000, 'x');
    try {
        auto connecting = sql::connect(folder.url("text"));
        co_await connecting.enter();
    } catch (const sql::error& e) {
        text = e.what();
        code = e.code();
    }
    EXPECT_CONTAINS(text, "text': file is not a database");
    EXPECT_EQ(code, "SQLITE_NOTADB");
    EXPECT_THROW(co_await aio::with(sql::connect("sqlite:///" + folder.path_.string()), [] {}), sql::error);
}

AIO_REAL_TEST("a statement that does not parse is an error with code and statement, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    std::string text, code, statement;
    try {
        co_await db.query("SELECT * FORM users");
    } catch (const sql::error& e) {
        text = e.what();
        code = e.code();
        statement = e.statement();
    }
    EXPECT_EQ(text, "syntax error (SQLITE_ERROR) at byte 10");
    EXPECT_EQ(code, "SQLITE_ERROR");
    EXPECT_EQ(statement, "SELECT * FORM users");
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT * FROM nowhere")), "no such table: nowhere");
    const std::string long_text = "SELECT '" + std::string(1000, 'y') + "' FORM";
    EXPECT_LT((co_await error_of(db.query(long_text))).size(), 100u);
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("constraints have their own codes") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (name <> 'x'))");
    co_await db.query("INSERT INTO t VALUES (1, 'a')");
    EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES (1, 'b')")), "SQLITE_CONSTRAINT_PRIMARYKEY");
    EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES (2, 'a')")), "SQLITE_CONSTRAINT_UNIQUE");
    EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES (2, NULL)")), "SQLITE_CONSTRAINT_NOTNULL");
    EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES (2, 'x')")), "SQLITE_CONSTRAINT_CHECK");
    EXPECT_EQ(co_await count(db, "t"), 1);
}

AIO_REAL_TEST("an error of the file itself names it: one whose pages are damaged") {
    const temporary_folder folder;
    {
        auto connecting = sql::connect(folder.url("damaged.db"));
        sql::connection& db = co_await connecting.enter();
        co_await db.query("CREATE TABLE t (x)");
        for (int i = 0; i < 20; ++i) co_await db.query("INSERT INTO t VALUES ($1)", std::string(3000, 'x'));
        co_await connecting.exit(nullptr);
    }
    {
        std::fstream file(folder.path_ / "damaged.db", std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(4096);
        file << std::string(4096, '\xff');
    }
    auto connecting = sql::connect(folder.url("damaged.db"));
    sql::connection& db = co_await connecting.enter();
    std::string code, text;
    try {
        co_await db.query("SELECT * FROM t");
    } catch (const sql::error& e) {
        code = e.code();
        text = e.what();
    }
    EXPECT_TRUE(code.starts_with("SQLITE_CORRUPT")) << code;
    EXPECT_CONTAINS(text, "damaged.db': ");
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a full disk is SQLITE_FULL, and nothing is half-written") {
    const temporary_folder folder;
    auto& db = co_await aio::enter(sql::connect(folder.url("full.db")));
    co_await db.query("CREATE TABLE t (x); PRAGMA max_page_count = 10");
    std::string code, text;
    try {
        co_await aio::with(db.transaction(), [&]() -> aio::coro<> {
            for (;;) co_await db.query("INSERT INTO t VALUES ($1)", std::string(3000, 'x'));
        });
    } catch (const sql::error& e) {
        code = e.code();
        text = e.what();
    }
    EXPECT_EQ(code, "SQLITE_FULL");
    EXPECT_CONTAINS(text, "full.db': ");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("what a database cannot hold is an invalid_argument") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    EXPECT_THROW(
        static_cast<void>(db.query("SELECT $1", std::numeric_limits<std::uint64_t>::max())), std::invalid_argument);
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT $1", std::numeric_limits<double>::quiet_NaN())), "NaN");
    EXPECT_CONTAINS(co_await error_of(db.query(std::string("SELECT 1\0 2", 11))), "NUL byte");
}

// ---- misuse and ends ----

AIO_REAL_TEST("operations of several tasks on a connection line up; one that is cancelled in the line leaves it") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    auto first = aio::create_task(db.query("SELECT 1"));
    auto second = aio::create_task(db.query("SELECT 2"));
    auto third = aio::create_task(db.query("SELECT 3"));
    co_await aio::sleep(0s);
    second.cancel();
    EXPECT_EQ((co_await third)[0][0].as<int>(), 3);
    EXPECT_TRUE(first.done());
    EXPECT_TRUE(second.cancelled());
    EXPECT_EQ((co_await first)[0][0].as<int>(), 1);
}

AIO_REAL_TEST("what PostgreSQL alone has is a logic_error in SQLite that says so") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    EXPECT_CONTAINS(co_await error_of(db.notify("a", "b")), "SQLite has no NOTIFY");
    EXPECT_THROW(static_cast<void>(db.listen("a")), std::logic_error);
    EXPECT_THROW(db.set_notice_handler([](const sql::notice&) {}), std::logic_error);
    std::vector<std::tuple<int>> some{{1}};
    EXPECT_CONTAINS(co_await error_of(db.copy_in("COPY t FROM STDIN", some)), "SQLite has no COPY");
    auto out = db.copy_out("COPY t TO STDOUT");
    EXPECT_CONTAINS(co_await error_of(out.next()), "SQLite has no COPY");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("execute_many runs a statement for each tuple, all or nothing") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT)");
    std::vector<std::tuple<int, std::string>> some{{1, "a"}, {2, "b"}, {3, "c"}};
    EXPECT_EQ((co_await db.execute_many("INSERT INTO t VALUES ($1, $2)", some)).affected(), 3u);
    const std::vector<std::pair<int, const char*>> bad{{4, "d"}, {1, "again"}};
    EXPECT_NE(co_await error_of(db.execute_many("INSERT INTO t VALUES ($1, $2)", bad)), "nothing");
    EXPECT_EQ((co_await db.query("SELECT group_concat(y, '') FROM t"))[0][0].as<std::string>(), "abc");
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (9, 'i')");
        EXPECT_NE(co_await error_of(db.execute_many("INSERT INTO t VALUES ($1, $2)", bad)), "nothing");
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ((co_await db.query("SELECT group_concat(y, '') FROM t"))[0][0].as<std::string>(), "abci");
}

AIO_REAL_TEST("after its manager's exit a connection is closed, and says so") {
    auto connecting = sql::connect("sqlite::memory:");
    sql::connection* db = &co_await connecting.enter();
    EXPECT_TRUE(db->usable());
    co_await db->aclose();
    co_await db->aclose();
    EXPECT_FALSE(db->usable());
    EXPECT_CONTAINS(co_await error_of(db->query("SELECT 1")), "closed");
    co_await connecting.exit(nullptr);
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("closing waits for the operation under way") {
    auto connecting = sql::connect("sqlite::memory:");
    sql::connection& db = co_await connecting.enter();
    auto job = aio::create_task(db.query(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000) SELECT count(*) FROM c"));
    co_await aio::sleep(0s);
    co_await connecting.exit(nullptr);
    AIO_REQUIRE(job.done());
    EXPECT_EQ(job.result()[0][0].as<int>(), 100000);
}

AIO_REAL_TEST("a connection that is dropped without having been closed frees its file by itself") {
    const temporary_folder folder;
    {
        auto connecting = sql::connect(folder.url("dropped.db"));
        sql::connection& db = co_await connecting.enter();
        co_await db.query("CREATE TABLE t (x)");
    }
    auto& db = co_await aio::enter(sql::connect(folder.url("dropped.db")));
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a relative path is relative, an absolute one absolute") {
    const temporary_folder folder;
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path_);
    co_await aio::with(
        sql::connect("sqlite:///a.db"), [](sql::connection& db) { return db.query("CREATE TABLE t (x)"); });
    std::filesystem::current_path(before);
    EXPECT_TRUE(std::filesystem::exists(folder.path_ / "a.db"));
    auto& db = co_await aio::enter(sql::connect(folder.url("a.db")));
    EXPECT_EQ(co_await count(db, "t"), 0);
}

// ---- transactions ----

AIO_REAL_TEST("a transaction is committed when its body ends, and rolled back when it throws") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> { co_await db.query("INSERT INTO t VALUES (1)"); });
    EXPECT_EQ(co_await count(db, "t"), 1);
    auto failing = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (2)");
        throw std::runtime_error("not this");
    };
    EXPECT_THROW(co_await aio::with(db.transaction(), failing), std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 1);
    const int given = co_await aio::with(db.transaction(),
        [](sql::connection& c) -> aio::coro<int> { co_return (co_await c.query("SELECT 5"))[0][0].as<int>(); });
    EXPECT_EQ(given, 5);
}

AIO_REAL_TEST("a transaction may be that of a whole coroutine") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    auto insert = [](sql::connection& c, bool fail) -> aio::coro<> {
        co_await aio::enter(c.transaction());
        co_await c.query("INSERT INTO t VALUES (1)");
        if (fail) throw std::runtime_error("not this");
    };
    co_await insert(db, false);
    EXPECT_THROW(co_await insert(db, true), std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 1);
}

AIO_REAL_TEST("a transaction inside a transaction is a savepoint") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    auto inner_fails = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (2)");
        throw std::runtime_error("inner");
    };
    auto innermost = [&]() -> aio::coro<> { co_await db.query("INSERT INTO t VALUES (4)"); };
    auto inner = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (3)");
        co_await aio::with(db.transaction(), innermost);
    };
    auto outer = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        EXPECT_THROW(co_await aio::with(db.transaction(), inner_fails), std::runtime_error);
        co_await aio::with(db.transaction(), inner);
    };
    co_await aio::with(db.transaction(), outer);
    EXPECT_EQ((co_await db.query("SELECT group_concat(x) FROM t"))[0][0].as<std::string>(), "1,3,4");

    auto all_fails = [&]() -> aio::coro<> {
        co_await aio::with(db.transaction(), inner);
        throw std::runtime_error("outer");
    };
    EXPECT_THROW(co_await aio::with(db.transaction(), all_fails), std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 3);
}

AIO_REAL_TEST("a commit that fails rolls back and throws") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query(
        "PRAGMA foreign_keys = ON; CREATE TABLE a (id INTEGER PRIMARY KEY);"
        "CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)");
    std::string code;
    try {
        co_await aio::with(db.transaction(), [&]() -> aio::coro<> { co_await db.query("INSERT INTO b VALUES (1)"); });
    } catch (const sql::error& e) { code = e.code(); }
    EXPECT_EQ(code, "SQLITE_CONSTRAINT_FOREIGNKEY");
    EXPECT_EQ(co_await count(db, "b"), 0);
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> { co_await db.query("INSERT INTO a VALUES (1)"); });
    EXPECT_EQ(co_await count(db, "a"), 1);
}

AIO_REAL_TEST("after SQLite has ended a transaction itself, nothing more is done in it") {
    const temporary_folder folder;
    auto& db = co_await aio::enter(sql::connect(folder.url("t.db")));
    co_await db.query("CREATE TABLE t (x); PRAGMA max_page_count = 10");
    auto body = [&]() -> aio::coro<> {
        EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES ($1)", std::string(100'000, 'x'))), "SQLITE_FULL");
        EXPECT_EQ(co_await code_of(db.query("INSERT INTO t VALUES (1)")), "SQLITE_ABORT_ROLLBACK");
        auto nested = db.transaction();
        EXPECT_THROW(co_await nested.enter(), sql::error);
    };
    std::string code;
    try {
        co_await aio::with(db.transaction(), body);
    } catch (const sql::error& e) { code = e.code(); }
    EXPECT_EQ(code, "SQLITE_ABORT_ROLLBACK");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("transactions are used once, in order, and not beside one begun by hand") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    auto once = db.transaction();
    EXPECT_THROW(co_await once.exit(nullptr), std::logic_error);
    co_await once.enter();
    EXPECT_THROW(co_await once.enter(), std::logic_error);
    co_await once.exit(nullptr);
    co_await db.query("BEGIN");
    auto beside = db.transaction();
    EXPECT_THROW(co_await beside.enter(), std::logic_error);
    co_await db.query("COMMIT");
    auto outer = db.transaction();
    auto inner = db.transaction();
    co_await outer.enter();
    co_await inner.enter();
    EXPECT_THROW(co_await outer.exit(nullptr), std::logic_error);
    EXPECT_CONTAINS(co_await error_of(db.query("SELECT 1")), "could not be ended");
}

// ---- streams ----

AIO_REAL_TEST("a stream gives the rows one by one, whatever their number") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    auto numbers = db.stream(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT $1) SELECT x, 'row ' || x AS text FROM c",
        1000);
    std::int64_t sum = 0;
    std::string last;
    while (auto row = co_await numbers.next()) {
        sum += (*row)["x"].as<int>();
        last = (*row)["text"].as<std::string>();
    }
    EXPECT_EQ(sum, 500'500);
    EXPECT_EQ(last, "row 1000");
    auto none = db.stream("SELECT 1 WHERE 0");
    EXPECT_FALSE(co_await none.next());
    auto nothing = db.stream("");
    EXPECT_FALSE(co_await nothing.next());
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a stream that is dropped or closed stops its statement, and the connection goes on") {
    const temporary_folder folder;
    auto& db = co_await aio::enter(sql::connect(folder.url("s.db")));
    auto& other = co_await aio::enter(sql::connect(folder.url("s.db")));
    co_await db.query(
        "CREATE TABLE t (x); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000) INSERT INTO t "
        "SELECT x FROM c");
    std::optional<sql::row> kept;
    {
        auto rows = db.stream("SELECT x FROM t");
        kept = *co_await rows.next();
        EXPECT_CONTAINS(co_await error_of(db.query("SELECT 1")), "a stream of this sql::connection is open");
    }
    EXPECT_EQ((*kept)[0].as<int>(), 1);
    EXPECT_EQ((co_await other.query("DELETE FROM t WHERE x = 1")).affected(), 1u);  // the stream has left no lock
    EXPECT_EQ(co_await count(db, "t"), 999);
    auto rows = db.stream("SELECT x FROM t");
    co_await rows.next();
    co_await rows.aclose();
    EXPECT_EQ(co_await count(db, "t"), 999);
    int seen = 0;
    co_await aio::for_each(db.stream("SELECT x FROM t WHERE x > $1", 990), [&](const sql::row&) { ++seen; });
    EXPECT_EQ(seen, 10);
}

AIO_REAL_TEST("a stream that ends the transaction around it is noticed as a query is") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x UNIQUE)");
    std::string inside;
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        auto rows = db.stream("INSERT OR ROLLBACK INTO t VALUES (1) RETURNING x");
        EXPECT_THROW(co_await rows.next(), sql::error);
        co_await rows.aclose();
        inside = co_await error_of(db.query("INSERT INTO t VALUES (2)"));
    };
    std::string code;
    try {
        co_await aio::with(db.transaction(), body);
    } catch (const sql::error& e) { code = e.code(); }
    EXPECT_CONTAINS(inside, "has been rolled back already");
    EXPECT_EQ(code, "SQLITE_ABORT_ROLLBACK");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("errors of a stream come from next()") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    auto wrong = db.stream("SELECT x FORM t");
    EXPECT_THROW(co_await wrong.next(), sql::error);
    auto several = db.stream("SELECT 1; SELECT 2");
    EXPECT_THROW(co_await several.next(), sql::error);
    auto late = db.stream(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT abs(-9223372036854775308 - x) FROM c");
    int rows = 0;
    std::string text;
    try {
        while (co_await late.next()) { ++rows; }
    } catch (const sql::error& e) { text = e.what(); }
    EXPECT_GT(rows, 256);
    EXPECT_CONTAINS(text, "integer overflow");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a stream whose transaction or connection has ended says so, and touches neither") {
    std::optional<aio::async_generator<sql::row>> rows;
    auto connecting = sql::connect("sqlite::memory:");
    sql::connection& db = co_await connecting.enter();
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> {
        rows.emplace(db.stream("SELECT 1 UNION ALL SELECT 2"));
        co_await rows->next();
    });
    EXPECT_THROW(co_await rows->next(), std::logic_error);
    rows.emplace(db.stream("SELECT 1 UNION ALL SELECT 2"));
    co_await rows->next();
    co_await connecting.exit(nullptr);
    EXPECT_THROW(co_await rows->next(), std::logic_error);
}

AIO_REAL_TEST("a cancelled stream leaves the connection usable") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    auto reading = aio::create_task([&]() -> aio::coro<> {
        auto rows =
            db.stream("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 1000");
        while (co_await rows.next()) {}
    });
    co_await aio::sleep(5ms);
    reading.cancel();
    EXPECT_THROW(co_await reading, aio::cancelled_error);
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

// ---- several connections ----

AIO_REAL_TEST("two connections: one does not see what the other has not committed, and writers wait for each other") {
    const temporary_folder folder;
    auto& a = co_await aio::enter(sql::connect(folder.url("two.db")));
    auto& b = co_await aio::enter(sql::connect(folder.url("two.db")));
    co_await a.query("PRAGMA journal_mode = WAL; CREATE TABLE t (x)");
    auto begun = a.transaction();
    co_await begun.enter();
    co_await a.query("INSERT INTO t VALUES (1)");
    EXPECT_EQ(co_await count(b, "t"), 0);
    auto waiting = aio::create_task(b.query("INSERT INTO t VALUES (2)"));
    co_await aio::sleep(5ms);
    EXPECT_FALSE(waiting.done());
    co_await begun.exit(nullptr);
    EXPECT_EQ((co_await waiting).affected(), 1u);
    EXPECT_EQ(co_await count(a, "t"), 2);
}

AIO_REAL_TEST(
    "the wait for a lock that is never released ends with SQLITE_BUSY, which names the file; opening a file does not "
    "need the lock") {
    const temporary_folder folder;
    auto& a = co_await aio::enter(sql::connect(folder.url("two.db")));
    auto& b = co_await aio::enter(sql::connect(folder.url("two.db")));
    co_await a.query("CREATE TABLE t (x)");
    co_await a.query("BEGIN EXCLUSIVE");
    auto connecting = sql::connect(folder.url("two.db"));
    auto opening = aio::create_task([&]() -> aio::coro<> { static_cast<void>(co_await connecting.enter()); });
    const std::string text = co_await error_of(b.query("INSERT INTO t VALUES (2)"));
    EXPECT_CONTAINS(text, "two.db': database is locked (SQLITE_BUSY)");
    co_await opening;  // opening does not need the lock
    co_await a.query("COMMIT");
    EXPECT_EQ((co_await b.query("INSERT INTO t VALUES (2)")).affected(), 1u);
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a cancel ends the wait for another connection's lock") {
    const temporary_folder folder;
    auto& a = co_await aio::enter(sql::connect(folder.url("two.db")));
    auto& b = co_await aio::enter(sql::connect(folder.url("two.db")));
    co_await a.query("CREATE TABLE t (x)");
    co_await a.query("BEGIN IMMEDIATE");
    auto waiting = aio::create_task(b.query("INSERT INTO t VALUES (2)"));
    co_await aio::sleep(5ms);
    waiting.cancel();
    EXPECT_THROW(co_await waiting, aio::cancelled_error);
    auto beginning = aio::create_task([&b]() -> aio::coro<> { co_await aio::with(b.transaction(), [] {}); });
    co_await aio::sleep(5ms);
    beginning.cancel();
    EXPECT_THROW(co_await beginning, aio::cancelled_error);
    co_await a.query("COMMIT");
    EXPECT_EQ(co_await count(b, "t"), 0);
}

// ---- pools ----

AIO_REAL_TEST("a pool gives each task a connection of its own, at most so many at once, first come first served") {
    const temporary_folder folder;
    sql::pool pool(folder.url("pool.db"), {.max_size = 2});
    co_await pool.query("PRAGMA journal_mode = WAL");
    co_await pool.query("CREATE TABLE t (x)");
    EXPECT_EQ(pool.statistics().idle, 1u);
    auto a = co_await pool.acquire();
    auto b = co_await pool.acquire();
    EXPECT_NE(&*a, &*b);
    aio_test::journal order;
    std::vector<aio::task<>> waiting;
    for (int i = 0; i < 4; ++i) {
        waiting.push_back(aio::create_task([&pool, &order, i]() -> aio::coro<> {
            auto conn = co_await pool.acquire();
            order(std::to_string(i));
            co_await conn->query("INSERT INTO t VALUES ($1)", i);
        }));
    }
    co_await aio_test::turns(3);
    EXPECT_EQ(pool.statistics().tasks_waiting, 4u);
    EXPECT_EQ(pool.statistics().in_use, 2u);
    waiting[1].cancel();
    a.release();
    EXPECT_FALSE(a);
    for (int i : {0, 2, 3}) co_await waiting[static_cast<std::size_t>(i)];
    EXPECT_EQ(order.text(), "0 2 3");
    EXPECT_EQ(co_await count(*b, "t"), 3);
    b.release();
    EXPECT_EQ(pool.statistics().in_use, 0u);
    co_await pool.aclose();
    co_await pool.aclose();
    EXPECT_THROW(static_cast<void>(co_await pool.acquire()), std::logic_error);
    EXPECT_CONTAINS(co_await error_of(pool.query("SELECT 1")), "closed");
}

AIO_REAL_TEST("closing a pool waits for the leases, and sends away who waits for one") {
    sql::pool pool("sqlite::memory:");
    std::optional<sql::pool::lease> conn = co_await pool.acquire();
    auto waiting = aio::create_task(pool.query("SELECT 1"));
    co_await aio_test::turns(2);
    auto closing = aio::create_task(pool.aclose());
    auto closing_too = aio::create_task(pool.aclose());
    auto cancelled = aio::create_task(pool.aclose());
    co_await aio_test::turns(2);
    cancelled.cancel();
    EXPECT_THROW(co_await cancelled, aio::cancelled_error);
    EXPECT_FALSE(closing.done());
    conn.reset();
    EXPECT_THROW(co_await waiting, std::logic_error);
    co_await closing;
    co_await closing_too;
}

AIO_REAL_TEST("a pool of a database in memory is one connection; a transaction left open is rolled back") {
    sql::pool pool("sqlite::memory:", {.max_size = 5});
    co_await pool.query("CREATE TABLE t (x)");
    {
        auto conn = co_await pool.acquire();
        co_await conn->query("BEGIN");
        co_await conn->query("INSERT INTO t VALUES (1)");
        auto rows = conn->stream("SELECT x FROM t");
        co_await rows.next();
        conn.release();
        EXPECT_THROW(co_await rows.next(), std::logic_error);
    }
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 0);
    EXPECT_EQ(pool.statistics().max_size, 1u);
    co_await pool.query("INSERT INTO t VALUES ($1)", "x");
    co_await aio::with(pool, [](sql::pool& p) -> aio::coro<> {
        EXPECT_EQ((co_await p.query("SELECT x FROM t"))[0][0].as<std::string>(), "x");
    });
}

AIO_REAL_TEST("a lease that is given back in a transaction is not used again") {
    const temporary_folder folder;
    sql::pool pool(folder.url("pool.db"), {.max_size = 1});
    co_await pool.query("CREATE TABLE t (x)");
    {
        auto conn = co_await pool.acquire();
        co_await conn->query("BEGIN; INSERT INTO t VALUES (1)");
    }
    EXPECT_EQ(pool.statistics().idle, 0u);
    EXPECT_EQ((co_await pool.query("SELECT count(*) FROM t"))[0][0].as<int>(), 0);
}

AIO_REAL_TEST("an attempt to connect that fails gives its place in the pool back") {
    const temporary_folder folder;
    sql::pool pool(folder.url("missing/pool.db"), {.max_size = 1});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(co_await code_of(pool.query("SELECT 1")), "SQLITE_CANTOPEN");
    EXPECT_EQ(pool.statistics().in_use, 0u);
    EXPECT_THROW(sql::pool("nothing://"), std::invalid_argument);
    EXPECT_THROW(sql::pool("sqlite::memory:", {.max_size = 0}), std::invalid_argument);
    EXPECT_THROW(sql::pool("sqlite::memory:", {.max_size = std::size_t(-1)}), std::invalid_argument);
}

AIO_REAL_TEST("a lease may outlive its pool") {
    std::optional<sql::pool::lease> conn;
    {
        sql::pool pool("sqlite::memory:");
        conn = co_await pool.acquire();
    }
    EXPECT_EQ((co_await (*conn)->query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("two who close a pool with two leases out both end when both are given back") {
    const temporary_folder folder;
    sql::pool pool(folder.url("pool.db"), {.max_size = 2});
    auto a = co_await pool.acquire();
    auto b = co_await pool.acquire();
    auto first = aio::create_task(pool.aclose());
    auto second = aio::create_task(pool.aclose());
    co_await aio_test::turns(3);
    a.release();
    co_await aio_test::turns(3);
    EXPECT_FALSE(first.done() || second.done());
    b.release();
    co_await aio::wait_for(std::move(first), 10s);
    co_await aio::wait_for(std::move(second), 10s);
    EXPECT_EQ(pool.statistics().idle, 0u);
}

AIO_REAL_TEST("the connection of a pool that was given back last is used first") {
    const temporary_folder folder;
    sql::pool pool(folder.url("pool.db"), {.max_size = 3});
    auto a = co_await pool.acquire();
    auto b = co_await pool.acquire();
    auto c = co_await pool.acquire();
    const sql::connection* const last = &*b;
    const sql::connection* const before = &*c;
    a.release();
    c.release();
    b.release();
    EXPECT_EQ(pool.statistics().idle, 3u);
    a = co_await pool.acquire();
    EXPECT_EQ(&*a, last);
    c = co_await pool.acquire();
    EXPECT_EQ(&*c, before);
}

AIO_REAL_TEST("the error of a stream that was left does not reach the next one") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    for (const bool dropped : {true, false}) {
        auto wrong = db.stream("SELECT 1 UNION ALL SELECT abs(-9223372036854775807 - 1)");
        EXPECT_EQ((*co_await wrong.next())[0].as<int>(), 1);  // the error came with this row, and is kept
        if (dropped) {
            wrong = db.stream("SELECT 2");
        } else {
            co_await wrong.aclose();
            wrong = db.stream("SELECT 2");
        }
        EXPECT_EQ((*co_await wrong.next())[0].as<int>(), 2);
        EXPECT_FALSE(co_await wrong.next());
    }
}

AIO_REAL_TEST("a file that another connection has locked can be opened; its statements wait for the lock") {
    const temporary_folder folder;
    auto& a = co_await aio::enter(sql::connect(folder.url("locked.db")));
    co_await a.query("CREATE TABLE t (x)");
    co_await a.query("BEGIN EXCLUSIVE");
    co_await a.query("INSERT INTO t VALUES (1)");
    auto opening = aio::create_task([&]() -> aio::coro<std::int64_t> {
        auto& b = co_await aio::enter(sql::connect(folder.url("locked.db")));
        co_return co_await count(b, "t");
    });
    co_await aio::sleep(20ms);
    EXPECT_FALSE(opening.done());
    co_await a.query("COMMIT");
    EXPECT_EQ(co_await opening, 1);
}

AIO_REAL_TEST("a transaction in a database that can only be read does what can be done there") {
    const temporary_folder folder;
    co_await aio::with(sql::connect(folder.url("ro.db")),
        [](sql::connection& db) { return db.query("CREATE TABLE t (x); INSERT INTO t VALUES (1)"); });
    std::filesystem::permissions(folder.path_ / "ro.db", std::filesystem::perms(0444));
    std::filesystem::permissions(folder.path_, std::filesystem::perms(0755));
    const bool root = ::geteuid() == 0;  // root may write whatever the permissions say
    if (root) AIO_REQUIRE(::seteuid(65534) == 0);
    auto connecting = sql::connect(folder.url("ro.db"));
    sql::connection& db = co_await connecting.enter();
    if (root) AIO_REQUIRE(::seteuid(0) == 0);
    std::int64_t rows = 0;
    std::string code;
    auto body = [&]() -> aio::coro<> {
        rows = co_await count(db, "t");
        code = co_await code_of(db.query("INSERT INTO t VALUES (2)"));
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_EQ(rows, 1);
    EXPECT_EQ(code, "SQLITE_READONLY");
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a driver that was closed is not usable, may be closed again, and needs nothing more at its end") {
    const std::unique_ptr<sql::driver> d = sql::make_driver("sqlite::memory:");
    EXPECT_FALSE(d->usable());
    co_await d->open();
    EXPECT_TRUE(d->usable());
    co_await d->close();
    EXPECT_FALSE(d->usable());
    co_await d->close();
    EXPECT_FALSE(d->usable());
}

AIO_REAL_TEST("a connection that was closed is not usable, and frees its file at once") {
    const temporary_folder folder;
    auto connecting = sql::connect(folder.url("closed.db"));
    sql::connection& db = co_await connecting.enter();
    co_await db.query("CREATE TABLE t (x)");
    co_await db.query("BEGIN EXCLUSIVE");
    EXPECT_TRUE(db.usable());
    co_await db.aclose();
    EXPECT_FALSE(db.usable());
    auto& other = co_await aio::enter(sql::connect(folder.url("closed.db")));
    EXPECT_EQ((co_await other.query("INSERT INTO t VALUES (1)")).affected(), 1u);
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("fault N13: who asks a pool and leaves at once leaves a connection for the next, and nothing else") {
    const temporary_folder folder;
    sql::pool pool(folder.url("pool.db"), {.max_size = 2});
    for (int i = 0; i < 30; ++i) {
        auto job = aio::create_task(pool.query("SELECT 1"));
        co_await aio_test::turns(i % 4);
        job.cancel();
        try {
            co_await job;
        } catch (const aio::cancelled_error&) {}
        EXPECT_EQ(pool.statistics().in_use, 0u);
    }
    EXPECT_EQ((co_await pool.query("SELECT 5"))[0][0].as<int>(), 5);
    EXPECT_LE(pool.statistics().idle, 2u);
    co_await pool.aclose();
    EXPECT_EQ(pool.statistics().idle, 0u);
    EXPECT_EQ(tasks_alive(), 1u);
}

PLAIN_TEST("a connection that a pool has made is kept, at whatever step who asked for it is cancelled") {
    const temporary_folder folder;
    const auto scenario = [&]() -> aio::coro<> {
        const std::size_t before = tasks_alive();
        sql::pool pool(folder.url("pool.db"), {.max_size = 1});
        std::exception_ptr cancelled;
        try {
            const auto conn = co_await pool.acquire();
        } catch (const aio::cancelled_error&) { cancelled = std::current_exception(); }
        while (tasks_alive() > before) co_await aio::sleep(0s);  // until the connection has been made
        EXPECT_EQ(pool.statistics().idle, 1u);
        EXPECT_EQ(pool.statistics().in_use, 0u);
        co_await pool.aclose();
        if (cancelled) std::rethrow_exception(cancelled);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] {}, {.real_time = true}), 3u);
}

PLAIN_TEST("cancelled at any step, a pool is whole") {
    const temporary_folder folder;
    const auto scenario = [&]() -> aio::coro<> {
        sql::pool pool(folder.url("pool.db"), {.max_size = 2});
        std::exception_ptr cancelled;
        try {
            co_await pool.query("SELECT 1");
            auto a = co_await pool.acquire();
            auto b = co_await pool.acquire();
            co_await b->query("SELECT $1", 1);
        } catch (const aio::cancelled_error&) { cancelled = std::current_exception(); }
        EXPECT_EQ(pool.statistics().in_use, 0u);
        EXPECT_EQ((co_await pool.query("SELECT 5"))[0][0].as<int>(), 5);
        co_await pool.aclose();
        EXPECT_EQ(pool.statistics().idle, 0u);
        if (cancelled) std::rethrow_exception(cancelled);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] {}), 5u);
}

// ---- cancellation ----

AIO_REAL_TEST("decision (b): a cancelled statement is interrupted, and the connection can be used") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    for (int i = 0; i < 10; ++i) {
        auto job = aio::create_task(db.query(endless));
        co_await aio::sleep(std::chrono::milliseconds(i));
        job.cancel("enough");
        job.cancel("enough");
        std::string message;
        try {
            co_await job;
        } catch (const aio::cancelled_error& e) { message = e.message(); }
        EXPECT_EQ(message, "enough");
        EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
    }
}

AIO_REAL_TEST(
    "decision (b): a statement that has completed in spite of the cancel gives its rows, and the cancel stays "
    "pending") {
    const temporary_folder folder;
    auto& db = co_await aio::enter(sql::connect(folder.url("late.db")));
    co_await db.query("CREATE TABLE t (x)");
    const auto size = [&] { return std::filesystem::file_size(folder.path_ / "late.db"); };
    const auto size_before = size();
    bool gave = false;
    auto job = aio::create_task([&]() -> aio::coro<> {
        const sql::rows rows = co_await db.query("INSERT INTO t VALUES ($1) RETURNING 5", std::string(100'000, 'x'));
        gave = rows[0][0].as<int>() == 5;
        co_await aio::sleep(0s);
    });
    co_await aio::sleep(0s);
    // Waits until the thread has written and is idle again. The loop learns of that later, because this task does not
    // suspend.
    while (size() == size_before || aio::detail::foreign_threads_alive()) std::this_thread::yield();
    job.cancel();
    EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_TRUE(gave);
    EXPECT_EQ(co_await count(db, "t"), 1);
}

AIO_REAL_TEST("a transaction that is cancelled is rolled back, whatever the cancel interrupts") {
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await db.query("CREATE TABLE t (x)");
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        co_await db.query(endless);
    };
    auto run = [&]() -> aio::coro<> { co_await aio::with(db.transaction(), body); };
    for (int i = 0; i < 5; ++i) {
        auto job = aio::create_task(run);
        co_await aio::sleep(std::chrono::milliseconds(2 * i));
        job.cancel();
        EXPECT_THROW(co_await job, aio::cancelled_error);
        EXPECT_EQ(co_await count(db, "t"), 0);
    }
    // The body cancels its own task, and then throws an error.
    auto both = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        aio::current_task().cancel();
        throw std::runtime_error("and cancelled");
    };
    auto run_both = [&]() -> aio::coro<> { co_await aio::with(db.transaction(), both); };
    auto job = aio::create_task(run_both);
    EXPECT_THROW(co_await job, std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 0);
}

PLAIN_TEST("cancelled at any step, a connection leaves nothing behind and a transaction is whole or not there") {
    const temporary_folder folder;
    aio_test::cancel_transactions_at_every_step(folder.url("steps.db"));
}

PLAIN_TEST("while SQLite waits for work, its thread hides no deadlock") {
    auto scenario = []() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
        co_await db.query("SELECT 1");
        aio::future<int> never;
        co_await never;
    };
    EXPECT_THROW(aio::run(scenario()), aio::deadlock_error);
}

AIO_REAL_TEST("a connection that is closed while a query runs waits for it; a cancel meanwhile comes after the close") {
    auto connecting = sql::connect("sqlite::memory:");
    sql::connection& db = co_await connecting.enter();
    auto query = aio::create_task([&]() -> aio::coro<std::size_t> {
        const sql::rows rows = co_await db.query(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 200000) SELECT count(*) FROM c");
        co_return rows.size();
    });
    co_await aio_test::turns(1);
    auto closing = aio::create_task(db.aclose());
    co_await aio_test::turns(1);
    AIO_REQUIRE(!query.done());
    closing.cancel();
    EXPECT_EQ(co_await query, 1u);
    bool cancelled = false;
    try {
        co_await closing;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_FALSE(db.usable());
    co_await connecting.exit(nullptr);
}

PLAIN_TEST("what is as large as a database takes is taken; one more is refused, and the limit is named") {
    const sql::size_limits most{"a database", 10, 5, 2 * (5 + sql::parameter_overhead), 2};
    const auto refusal = [&](std::size_t statement, std::vector<std::size_t> sizes) {
        std::vector<sql::parameter> parameters;
        for (const std::size_t size : sizes) parameters.emplace_back(std::string(size, 'v'));
        try {
            sql::check_sizes(std::string(statement, 's'), parameters, most);
        } catch (const std::invalid_argument& e) { return std::string(e.what()); }
        return std::string("taken");
    };
    EXPECT_EQ(refusal(10, {5, 5}), "taken");
    EXPECT_TRUE(contains(refusal(11, {}), "at most 10"));
    EXPECT_TRUE(contains(refusal(1, {6}), "at most 5"));
    EXPECT_TRUE(contains(refusal(1, {1, 1, 1}), "at most 2"));
    const sql::size_limits together{"a database", 10, 50, 10 + sql::parameter_overhead, 9};
    const auto together_taken = [&](std::size_t size) {
        std::vector<sql::parameter> one;
        one.emplace_back(std::string(size, 'v'));
        try {
            sql::check_sizes("s", one, together);
        } catch (const std::invalid_argument&) { return false; }
        return true;
    };
    EXPECT_TRUE(together_taken(10));
    EXPECT_FALSE(together_taken(11));
}
