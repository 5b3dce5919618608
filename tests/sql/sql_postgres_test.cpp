// Tests of aio::sql with PostgreSQL. tests/with_postgres starts the server.
#include "faulty_proxy.hpp"
#include "sql_test.hpp"

#include "loop/process_threads.hpp"

#include <aio/lowlevel.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <future>
#include <limits>
#include <random>

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

namespace sql = aio::sql;
using aio_test::contains;
using aio_test::count;

std::string server() {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) {
        throw std::runtime_error(
            "AIO_TEST_POSTGRES is not set: these tests need a PostgreSQL server; run them with ./dev test, or "
            "with tests/with_postgres COMMAND");
    }
    return url;
}

/// The server's URL with part replaced by other.
std::string server_with(const std::string& part, const std::string& other) {
    std::string url = server();
    const std::size_t at = url.find(part);
    if (at == std::string::npos) throw std::runtime_error("AIO_TEST_POSTGRES has no " + part);
    return url.replace(at, part.size(), other);
}

std::string port() {
    const std::string url = server();
    const std::size_t at = url.find("127.0.0.1:") + 10;
    return url.substr(at, url.find('/', at) - at);
}

int port_number() { return std::atoi(port().c_str()); }
std::string through(const faulty_proxy& proxy) {
    return server_with(port() + "/aio", std::to_string(proxy.port()) + "/aio");
}

struct failure {
    std::string what = "nothing", code, statement, message, detail, constraint, table, column;
};
template<class Awaitable>
aio::coro<failure> failure_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const sql::error& e) {
        failure f;
        f.what = e.what();
        f.code = e.code();
        f.statement = e.statement();
        f.message = e.message();
        f.detail = e.detail();
        f.constraint = e.constraint();
        f.table = e.table();
        f.column = e.column();
        co_return f;
    } catch (const std::exception& e) {
        failure f;
        f.what = e.what();
        f.code = "no sql::error";
        co_return f;
    }
    co_return failure();
}
aio::coro<failure> failure_to_connect(std::string url) {
    auto connecting = sql::connect(std::move(url));
    failure f = co_await failure_of(connecting.enter());
    co_await connecting.exit(nullptr);
    co_return f;
}

/// A server that accepts connections and sends nothing.
class silent_server {
public:
    silent_server() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd_, 10) != 0 ||
            ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
            throw std::runtime_error("no listening socket");
        }
        url_ = "postgresql://aio@127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/aio";
    }
    ~silent_server() { ::close(fd_); }
    silent_server(const silent_server&) = delete;
    silent_server& operator=(const silent_server&) = delete;
    const std::string& url() const { return url_; }
    /// Waits until somebody has connected.
    aio::coro<> until_asked() const { co_await aio::lowlevel::wait_readable(fd_); }

private:
    int fd_;
    std::string url_;
};

/// Counts the tasks that have not ended, those of the library, too, such as a pool's attempts to connect.
std::size_t tasks_alive() {
    std::size_t n = 0;
    auto& tasks = aio::detail::local().loop->tasks;
    for (auto* t = tasks.front(); t; t = tasks.after(*t)) ++n;
    return n;
}

/// Waits until pg_stat_activity, read on another connection, shows the condition for a backend.
aio::coro<> until_active(sql::connection& observer, int backend, std::string condition) {
    for (;;) {
        const sql::rows rows =
            co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND " + condition, backend);
        if (!rows.empty()) co_return;
        co_await aio::sleep(1ms);
    }
}
/// Gives what another connection may have sent the time of n answers of the server.
aio::coro<> exchanges(sql::connection& observer, int n) {
    for (int i = 0; i < n; ++i) co_await observer.query("SELECT 1");
}
aio::coro<int> backend_of(sql::connection& db) {
    const sql::rows rows = co_await db.query("SELECT pg_backend_pid()");
    co_return rows[0][0].as<int>();
}
constexpr const char* sleeping = "wait_event = 'PgSleep'";

std::promise<void>* resolver_held = nullptr;
std::atomic<bool> resolver_entered = false;

}  // namespace

// Replaces the system's getaddrinfo(): it does not resolve held.test before resolver_held is set.
extern "C" [[gnu::visibility("default")]] int getaddrinfo(
    const char* host, const char* service, const addrinfo* hints, addrinfo** found) {
    if (host && std::strcmp(host, "held.test") == 0) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        resolver_entered = true;
        resolver_held->get_future().wait();
        return EAI_NONAME;
    }
    static const auto system = reinterpret_cast<decltype(&::getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    return system(host, service, hints, found);
}

// ---- ordinary use ----

AIO_REAL_TEST("a table is made, filled and read, with parameters, by name and by number") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)");
    const sql::rows inserted = co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 7, "Ann", 30);
    EXPECT_EQ(inserted.affected(), 1u);
    co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 8, std::string("Bob"), std::optional<int>());
    const sql::rows rows = co_await db.query("SELECT * FROM users WHERE id = $1", 7);
    AIO_REQUIRE(rows.size() == 1);
    EXPECT_EQ(rows[0]["name"].as<std::string>(), "Ann");
    EXPECT_EQ(rows[0][2].as<int>(), 30);
    EXPECT_EQ(rows.affected(), 0u);
    EXPECT_EQ(rows.columns(), (std::vector<std::string>{"id", "name", "age"}));
    EXPECT_TRUE((co_await db.query("SELECT age FROM users WHERE id = 8"))[0]["age"].is_null());
    EXPECT_EQ((co_await db.query("UPDATE users SET age = 1")).affected(), 2u);
    EXPECT_EQ((co_await db.query("DELETE FROM users RETURNING id")).affected(), 2u);
    EXPECT_TRUE((co_await db.query("")).empty());
    EXPECT_EQ(
        (co_await db.query("CREATE TEMP TABLE a (x int); INSERT INTO a VALUES (1), (2); SELECT x FROM a")).size(), 2u);
}

AIO_REAL_TEST("every type comes back as it went in") {
    auto& db = co_await aio::enter(sql::connect(server()));
    const std::string unicode = "Grüße, 世界, \U0001F600";
    const std::string large(5'000'000, 'x');
    std::vector<std::byte> bytes;
    for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<std::byte>(i));
    const std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       most = std::numeric_limits<std::int64_t>::max();
    const sql::rows rows = co_await db.query(
        "SELECT $1::bigint, $2::bigint, $3::float8, $4::boolean, $5, $6, $7::bytea, $8::int, $9::int, $10, "
        "$11::numeric, $12::float8",
        least, most, 0.1, true, unicode, large, bytes, nullptr, std::optional<int>(5), "",
        "123456789012345678901234567890.5", std::numeric_limits<double>::infinity());
    const sql::row row = rows[0];
    EXPECT_EQ(row[0].as<std::int64_t>(), least);
    EXPECT_EQ(row[1].as<std::int64_t>(), most);
    EXPECT_EQ(row[2].as<double>(), 0.1);
    EXPECT_TRUE(row[3].as<bool>());
    EXPECT_EQ(row[3].as<std::string>(), "true");
    EXPECT_EQ(row[4].as<std::string>(), unicode);
    EXPECT_EQ(row[5].as<std::string>(), large);
    EXPECT_EQ(row[6].as<std::vector<std::byte>>(), bytes);
    EXPECT_TRUE(row[7].is_null());
    EXPECT_EQ(row[8].as<std::optional<int>>(), 5);
    EXPECT_EQ(row[9].as<std::string>(), "");
    EXPECT_EQ(row[10].as<std::string>(), "123456789012345678901234567890.5");
    EXPECT_THROW(row[10].as<std::int64_t>(), std::invalid_argument);
    EXPECT_EQ(row[11].as<double>(), std::numeric_limits<double>::infinity());
    co_await db.query("SET bytea_output = 'escape'");
    EXPECT_EQ((co_await db.query("SELECT $1::bytea", bytes))[0][0].as<std::vector<std::byte>>(), bytes);
}

AIO_REAL_TEST("a result of many rows comes whole") {
    auto& db = co_await aio::enter(sql::connect(server()));
    const sql::rows rows = co_await db.query("SELECT x, repeat('y', 100) FROM generate_series(1, $1) x", 100'000);
    EXPECT_EQ(rows.size(), 100'000u);
    std::int64_t sum = 0;
    for (const sql::row& row : rows) sum += row[0].as<std::int64_t>();
    EXPECT_EQ(sum, 5'000'050'000);
}

AIO_REAL_TEST("text is UTF-8 unless the URL says otherwise, whatever the environment says") {
    ::setenv("PGCLIENTENCODING", "LATIN1", 1);
    for (const char* asked : {"", "?client_encoding=LATIN1"}) {
        auto connecting = sql::connect(server() + asked);
        sql::connection& db = co_await connecting.enter();
        const sql::rows rows = co_await db.query("SHOW client_encoding");
        EXPECT_EQ(rows[0][0].as<std::string>(), *asked ? "LATIN1" : "UTF8");
        co_await connecting.exit(nullptr);
    }
    ::unsetenv("PGCLIENTENCODING");
}

AIO_REAL_TEST("a host is looked up by name") {
    auto& db = co_await aio::enter(sql::connect(server_with("127.0.0.1", "localhost")));
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a large statement and large parameters are written without blocking the loop") {
    auto& db = co_await aio::enter(sql::connect(server()));
    const std::string large(30'000'000, 'z');
    bool ticked = false;
    auto ticking = aio::create_task([&]() -> aio::coro<> {
        co_await aio::sleep(0s);
        ticked = true;
    });
    const sql::rows rows = co_await db.query("SELECT length($1)", large);
    EXPECT_EQ(rows[0][0].as<int>(), 30'000'000);
    EXPECT_TRUE(ticked);
    co_await ticking;
}

// ---- errors ----

AIO_REAL_TEST("a wrong password is 28P01, and no error shows a password") {
    const failure f = co_await failure_to_connect(server_with("secret", "guessed"));
    EXPECT_EQ(f.code, "28P01");
    EXPECT_CONTAINS(f.what, "password authentication failed for user \"aio\"");
    EXPECT_CONTAINS(f.what, "127.0.0.1");
    EXPECT_FALSE(contains(f.what, "guessed"));
    EXPECT_FALSE(contains(f.what, "LOCATION")) << f.what;
}

AIO_REAL_TEST("a server that is not there is an error that says where and why") {
    failure f = co_await failure_to_connect("postgresql://aio:secret@127.0.0.1:1/aio");
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "127.0.0.1");
    EXPECT_CONTAINS(f.what, "port 1 failed: Connection refused");
    EXPECT_FALSE(contains(f.what, "secret"));
    f = co_await failure_to_connect("postgresql://aio:secret@no-such-host.invalid/aio");
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "resolving host 'no-such-host.invalid'");
    const bool reason = contains(f.what, ::gai_strerror(EAI_NONAME)) || contains(f.what, ::gai_strerror(EAI_AGAIN));
    EXPECT_TRUE(reason) << f.what;
    f = co_await failure_to_connect("postgresql:///db?host=/nonexistent/folder");
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "/nonexistent/folder");
    f = co_await failure_to_connect(server_with(port() + "/aio", port() + "/nowhere"));
    EXPECT_EQ(f.code, "3D000");
    EXPECT_CONTAINS(f.what, "database \"nowhere\" does not exist");
}

PLAIN_TEST("a slash in a password, which moves the host, is told of as what it is") {
    std::string what;
    try {
        static_cast<void>(sql::connect("postgresql://me:se/cret@h/db"));
    } catch (const std::invalid_argument& e) { what = e.what(); }
    EXPECT_CONTAINS(what, "special characters of a password are written %40");
    EXPECT_FALSE(contains(what, "cret")) << what;
}

AIO_REAL_TEST("of several hosts the first that answers is taken") {
    auto& db = co_await aio::enter(sql::connect("postgresql://aio:secret@127.0.0.1:1,localhost:" + port() + "/aio"));
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("of several hosts the first may be the local socket, which has no name") {
    ::setenv("PGPORT", "1", 1);  // for both: nothing listens there
    std::string text;
    try {
        co_await aio::enter(sql::connect("postgresql://aio@,127.0.0.1/aio"));
    } catch (const sql::error& e) { text = e.what(); }
    ::unsetenv("PGPORT");
    EXPECT_NE(text.find(".s.PGSQL.1"), std::string::npos) << text;
    EXPECT_NE(text.find("127.0.0.1"), std::string::npos) << text;
}

AIO_REAL_TEST("fault N24: of several hosts one that never answers is given up in its time, and the next one is tried") {
    const silent_server silent;
    const std::string both = silent.url().substr(silent.url().find("127"));
    const std::string silent_host = both.substr(0, both.find('/'));
    const std::string url = "postgresql://aio:secret@" + silent_host + ",127.0.0.1:1,127.0.0.1:";
    auto& db = co_await aio::enter(sql::connect(url + port() + "/aio?connect_timeout=1"));
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
    const failure f = co_await failure_to_connect(url + "1/aio?connect_timeout=1");
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "no answer within 1 seconds");
    EXPECT_CONTAINS(f.what, "port 1 failed: Connection refused");
}

AIO_REAL_TEST("errors of statements have their SQLSTATE and statement, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect(server()));
    failure f = co_await failure_of(db.query("SELECT * FORM users"));
    EXPECT_EQ(f.code, "42601");
    EXPECT_EQ(f.statement, "SELECT * FORM users");
    EXPECT_EQ(f.what, "syntax_error (42601) at character 10");
    EXPECT_EQ(f.message, "syntax error at or near \"FORM\"");
    co_await db.query("CREATE TEMP TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
    co_await db.query("INSERT INTO t VALUES (1, 'a')");
    f = co_await failure_of(db.query("INSERT INTO t VALUES ($1, $2)", 1, "b"));
    EXPECT_EQ(f.code, "23505");
    EXPECT_EQ(f.what, "unique_violation (23505), constraint \"t_pkey\", table \"t\"");
    EXPECT_EQ(f.detail, "Key (id)=(1) already exists.");
    EXPECT_EQ(f.constraint, "t_pkey");
    EXPECT_EQ(f.table, "t");
    f = co_await failure_of(db.query("INSERT INTO t VALUES (2, NULL)"));
    EXPECT_EQ(f.code, "23502");
    EXPECT_EQ(f.column, "name");
    EXPECT_EQ(f.what, "not_null_violation (23502), table \"t\", column \"name\"");
    EXPECT_EQ((co_await failure_of(db.query("SELECT 1 / $1::int", 0))).code, "22012");
    EXPECT_EQ((co_await failure_of(db.query("SELECT $1::int"))).code, "42P02");
    EXPECT_EQ((co_await failure_of(db.query("SELECT $1::int", 1, 2))).code, "42P18");
    EXPECT_EQ((co_await failure_of(db.query("SELECT $1::int; SELECT 2", 1))).code, "42601");
    EXPECT_EQ((co_await failure_of(db.query("SELECT $1::int", "seven"))).code, "22P02");
    EXPECT_CONTAINS(
        (co_await failure_of(db.query("SELECT $1", std::string("a\0b", 3)))).what, "the text for $1 holds a NUL byte");
    EXPECT_EQ(co_await count(db, "t"), 1);
}

AIO_REAL_TEST(
    "fault N8: what() of an error has no parameter, no literal and no password; its accessors have everything") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query(
        "CREATE TEMP TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (length(name) < 20), other "
        "INTEGER)");
    co_await db.query("INSERT INTO t VALUES (1, 'hidden')");
    const std::string secret = "hidden";
    std::vector<failure> failures;
    auto keep = [&](auto operation) -> aio::coro<> {
        failure f = co_await failure_of(std::move(operation));
        failures.push_back(std::move(f));
    };
    co_await keep(db.query("INSERT INTO t VALUES (2, $1)", secret));
    co_await keep(db.query("INSERT INTO t VALUES (2, 'hidden')"));
    co_await keep(db.query("INSERT INTO t VALUES (2, $1)", secret + std::string(30, 'x')));
    co_await keep(db.query("INSERT INTO t (id, other) VALUES (3, length('hidden'))"));
    co_await keep(db.query("INSERT INTO t VALUES ($1::int, 'a')", secret));
    for (const char* type : {"int", "float8", "numeric", "boolean", "date", "timestamptz", "interval", "uuid", "jsonb",
             "bytea", "inet", "regclass", "regtype", "regrole", "regproc", "point", "money", "tsquery", "xid8"}) {
        co_await keep(db.query(std::string("SELECT $1::") + type, "hidden \\x & '"));
        co_await keep(db.query(std::string("SELECT 'hidden \\x &'::") + type));
    }
    for (const char* statement : {"ALTER USER nobody PASSWORD 'hidden'", "CREATE USER aio PASSWORD 'hidden'",
             "ALTER USER aio PASSWORD 'hidden' FORM", "SELECT 1 FORM t WHERE 'hidden'", "SELECT 'hidden",
             "SELECT 'O'hidden'", "SELECT $q$hidden", "SELECT E'\\u00hidden'", "SELECT \"hidden\" FROM t",
             "SELECT nextval('hidden')", "SELECT regclass 'hidden'", "SELECT to_date('hidden', 'YYYY')",
             "DO $$ BEGIN RAISE EXCEPTION 'hidden'; END $$",
             "DO $$ BEGIN RAISE EXCEPTION 'hidden' USING ERRCODE = '42P01'; END $$",
             "DO $$ BEGIN EXECUTE 'SELECT hidden'; END $$", "SELECT set_config('hidden', 'x', false)",
             "SELECT 1 / length('') FROM t WHERE name = 'hidden'", "SELECT ('{\"a\": 1}'::jsonb #> '{hidden')"}) {
        co_await keep(db.query(statement));
    }
    for (const failure& f : failures) {
        if (f.what == "nothing") continue;  // that type accepts every text
        EXPECT_EQ(f.code.size(), 5u) << f.what << " " << f.code;
        EXPECT_FALSE(contains(f.what, "hidden")) << f.what;
        EXPECT_CONTAINS(f.what, f.code);
        EXPECT_FALSE(f.statement.empty());
        EXPECT_FALSE(f.message.empty());
    }
    EXPECT_GT(failures.size(), 60u);
    EXPECT_LT(std::count_if(failures.begin(), failures.end(), [](const failure& f) { return f.what == "nothing"; }), 4);
    EXPECT_EQ(failures[0].detail, "Key (name)=(hidden) already exists.");
    EXPECT_EQ(failures[0].constraint, "t_name_key");
    EXPECT_EQ(failures[5].message, "invalid input syntax for type integer: \"hidden \\x & '\"");
    // Messages show names from the statement if they are plain names.
    EXPECT_EQ((co_await failure_of(db.query("SELECT 'ü' FROM nowhere"))).what,
        "relation \"nowhere\" does not exist (42P01) at character 17");
    EXPECT_EQ((co_await failure_of(db.query("SELECT t.nothing FROM t"))).what,
        "column t.nothing does not exist (42703) at character 8");
    EXPECT_EQ((co_await failure_of(db.query("SELECT nofunction(1)"))).what,
        "function nofunction(integer) does not exist (42883) at character 8");
}

AIO_REAL_TEST("fault N10: more parameters than the protocol has room for are refused, naming the limit") {
    auto& db = co_await aio::enter(sql::connect(server()));
    std::vector<sql::parameter> many(65536, sql::parameter(1));
    EXPECT_EQ((co_await failure_of(db.query("SELECT 1", many))).what,
        "65536 parameters were given: PostgreSQL takes at most 65535");
    many.pop_back();
    std::string sum = "SELECT $1::int";
    for (int i = 2; i <= 65535; ++i) sum += ",$" + std::to_string(i) + "::int";
    const failure f = co_await failure_of(db.query(sum, many));
    EXPECT_EQ(f.code, "54011") << f.what;  // the parameters have arrived: the columns are too many
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("fault N14: notifications that nobody takes are dropped") {
    auto& db = co_await aio::enter(sql::connect(server()));
    auto& other = co_await aio::enter(sql::connect(server()));
    co_await db.query("LISTEN news");
    const std::size_t before = aio_test::bytes_in_use();
    for (int i = 0; i < 20; ++i) {
        co_await other.query("SELECT pg_notify('news', repeat('x', 7900) || i) FROM generate_series(1, 100) i");
        co_await db.query("SELECT 1");
        EXPECT_TRUE(db.usable());
    }
    EXPECT_LT(aio_test::bytes_in_use(), before + 4'000'000);  // 16 MB of notifications have come
}

AIO_REAL_TEST("fault N23: a COMMIT or ROLLBACK written by hand inside transaction() is told for what it was") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    for (const char* by_hand : {"COMMIT", "SELECT 1; END", "ROLLBACK", "ABORT"}) {
        const bool commits = by_hand[0] == 'C' || by_hand[0] == 'S';
        failure inside;
        auto body = [&]() -> aio::coro<> {
            co_await db.query("INSERT INTO t VALUES (1)");
            co_await db.query(by_hand);
            inside = co_await failure_of(db.query("INSERT INTO t VALUES (2)"));
        };
        const failure f = co_await failure_of(aio::with(db.transaction(), body));
        EXPECT_CONTAINS(f.what, commits ? "has been committed already" : "has been rolled back already");
        EXPECT_CONTAINS(inside.what, commits ? "has been committed already" : "has been rolled back already");
        EXPECT_EQ(f.code, "25P01");
    }
    EXPECT_EQ(co_await count(db, "t"), 2);
}

AIO_REAL_TEST("fault N23: a bool that becomes text is true or false") {
    auto& db = co_await aio::enter(sql::connect(server()));
    const sql::rows rows = co_await db.query("SELECT $1::text, $2, $3::boolean", true, false, true);
    EXPECT_EQ(rows[0][0].as<std::string>(), "true");
    EXPECT_EQ(rows[0][1].as<std::string>(), "false");
    EXPECT_TRUE(rows[0][2].as<bool>());
}

namespace {
/// Lets virtual time go on although the loop waits for something from outside, which will not come.
aio::coro<failure> without_hope(aio::coro<failure> waiting) {
    auto job = aio::create_task(std::move(waiting));
    co_await aio_test::turns(3);
    --aio::detail::local().loop->outstanding;
    failure f = co_await job;
    ++aio::detail::local().loop->outstanding;
    co_return f;
}
}  // namespace

AIO_TEST("a host whose name nobody resolves is given up in its time, or by a cancel") {
    std::promise<void> end;
    resolver_held = &end;
    const auto begun = aio::get_running_loop().time();
    const failure f = co_await without_hope(failure_to_connect("postgresql://aio@held.test/aio?connect_timeout=7"));
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "no answer within 7 seconds");
    EXPECT_GE(aio::get_running_loop().time() - begun, 7s);
    EXPECT_LT(aio::get_running_loop().time() - begun, 8s);
    end.set_value();
}

AIO_REAL_TEST(
    "a connect that is cancelled when its host's name has been resolved, and the loop has not heard of it, ends") {
    std::promise<void> end;
    resolver_held = &end;
    resolver_entered = false;
    auto connecting = aio::create_task(failure_to_connect("postgresql://aio@held.test/aio"));
    while (!resolver_entered) co_await aio::sleep(0s);
    end.set_value();
    // Until the thread has handed its answer over. This task does not suspend meanwhile, so the loop has not heard of
    // it.
    while (aio::detail::foreign_threads_alive()) std::this_thread::yield();
    connecting.cancel();
    co_await aio_test::turns(3);
    EXPECT_TRUE(connecting.cancelled());
}

AIO_TEST("fault N24: a server that never answers is given up after 30 seconds, or as connect_timeout says") {
    const silent_server silent;
    const auto begun = aio::get_running_loop().time();
    failure f = co_await without_hope(failure_to_connect(silent.url()));
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "no answer within 30 seconds");
    EXPECT_GE(aio::get_running_loop().time() - begun, 30s);
    EXPECT_LT(aio::get_running_loop().time() - begun, 31s);
    f = co_await without_hope(failure_to_connect(silent.url() + "?connect_timeout=7"));
    EXPECT_CONTAINS(f.what, "no answer within 7 seconds");
    auto for_ever = sql::connect(silent.url() + "?connect_timeout=0");
    f = co_await without_hope(failure_of(aio::wait_for(for_ever.enter(), 24h)));
    EXPECT_EQ(f.code, "no sql::error");
    EXPECT_GE(aio::get_running_loop().time() - begun, 24h);
    for (const char* value : {"abc", "7s", "", "99999999999"}) {
        EXPECT_THROW(static_cast<void>(sql::connect(silent.url() + "?connect_timeout=" + value)), std::invalid_argument)
            << value;
    }
}

AIO_REAL_TEST("COPY in a query is refused, never hangs, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (id INTEGER); INSERT INTO t VALUES (1)");
    for (const char* copy : {"COPY t FROM STDIN", "COPY t TO STDOUT", "SELECT 1; COPY t FROM STDIN"}) {
        EXPECT_EQ((co_await failure_of(db.query(copy))).code, "0A000") << copy;
        EXPECT_EQ((co_await failure_of(db.query(copy))).code, "0A000") << copy;
        auto rows = db.stream(copy);
        EXPECT_NE((co_await failure_of(rows.next())).code, "") << copy;
        EXPECT_EQ(co_await count(db, "t"), 1);
    }
    EXPECT_TRUE(db.usable());
}

AIO_REAL_TEST("a server that goes away in the middle of a query is an error, and the connection is not used again") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto job = aio::create_task(db.query("SELECT pg_sleep(60)"));
    co_await until_active(observer, backend, sleeping);
    co_await observer.query("SELECT pg_terminate_backend($1)", backend);
    const failure f = co_await failure_of(job);
    EXPECT_EQ(f.code, "57P01");
    EXPECT_CONTAINS(f.what, "terminating connection due to administrator command");
    EXPECT_EQ(f.statement, "SELECT pg_sleep(60)");
    EXPECT_FALSE(db.usable());
    EXPECT_EQ((co_await failure_of(db.query("SELECT 1"))).code, "08003");
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a server that goes away while nothing is asked is noticed") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    EXPECT_TRUE(db.usable());
    co_await observer.query("SELECT pg_terminate_backend($1, 10000)", backend);
    while (db.usable()) co_await aio::sleep(1ms);
    EXPECT_CONTAINS((co_await failure_of(db.query("SELECT 1"))).code, "08");
}

AIO_REAL_TEST("why the server has ended an idle connection is in the error of who uses it next") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    co_await observer.query("SELECT pg_terminate_backend($1, 10000)", backend);
    while (db.usable()) co_await aio::sleep(1ms);
    const failure f = co_await failure_of(db.query("SELECT 1"));
    EXPECT_EQ(f.code, "08003");
    EXPECT_CONTAINS(f.what, "terminating connection due to administrator command (57P01)");
}

AIO_REAL_TEST("in a transaction, a server that goes away is the error that leaves it") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    auto body = [&]() -> aio::coro<> {
        co_await observer.query("SELECT pg_terminate_backend($1, 10000)", backend);
        co_await db.query("SELECT 1");
    };
    const failure f = co_await failure_of(aio::with(db.transaction(), body));
    EXPECT_TRUE(f.code == "57P01" || contains(f.code, "08")) << f.code;
}

AIO_REAL_TEST("queries of several tasks on one connection are answered, each with its own result or error") {
    auto& db = co_await aio::enter(sql::connect(server()));
    auto first = aio::create_task(db.query("SELECT 1"));
    auto second = aio::create_task(db.query("SELECT 1 / 0"));
    auto third = aio::create_task(db.query("SELECT 3"));
    EXPECT_EQ((co_await third)[0][0].as<int>(), 3);
    EXPECT_EQ((co_await failure_of(second)).code, "22012");
    EXPECT_EQ((co_await first)[0][0].as<int>(), 1);
}

// ---- transactions ----

AIO_REAL_TEST("transactions commit, roll back, and nest as savepoints") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto inner_fails = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (2)");
        co_await db.query("SELECT 1 / 0");
    };
    auto inner = [&]() -> aio::coro<> { co_await db.query("INSERT INTO t VALUES (3)"); };
    auto outer = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        EXPECT_EQ((co_await failure_of(aio::with(db.transaction(), inner_fails))).code, "22012");
        co_await aio::with(db.transaction(), inner);
    };
    co_await aio::with(db.transaction(), outer);
    EXPECT_EQ((co_await db.query("SELECT string_agg(x::text, ',' ORDER BY x) FROM t"))[0][0].as<std::string>(), "1,3");
    auto all_fails = [&]() -> aio::coro<> {
        co_await aio::with(db.transaction(), inner);
        throw std::runtime_error("outer");
    };
    EXPECT_THROW(co_await aio::with(db.transaction(), all_fails), std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 2);
}

AIO_REAL_TEST("a body that swallows the failure of a statement gets no silent rollback for a commit") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        static_cast<void>(co_await failure_of(db.query("SELECT 1 / 0")));
    };
    const failure f = co_await failure_of(aio::with(db.transaction(), body));
    EXPECT_EQ(f.code, "25P02");
    EXPECT_CONTAINS(f.what, "nothing was committed");
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a commit that fails rolls back and throws") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query(
        "CREATE TEMP TABLE a (id INTEGER PRIMARY KEY); CREATE TEMP TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE "
        "INITIALLY DEFERRED)");
    auto body = [&]() -> aio::coro<> { co_await db.query("INSERT INTO b VALUES (1)"); };
    EXPECT_EQ((co_await failure_of(aio::with(db.transaction(), body))).code, "23503");
    EXPECT_EQ(co_await count(db, "b"), 0);
}

// ---- streams ----

AIO_REAL_TEST("a stream gives the rows one by one, as the server sends them") {
    auto& db = co_await aio::enter(sql::connect(server()));
    auto numbers = db.stream("SELECT x, 'row ' || x AS text FROM generate_series(1, $1) x", 1000);
    std::int64_t sum = 0;
    while (auto row = co_await numbers.next()) { sum += (*row)["x"].as<int>(); }
    EXPECT_EQ(sum, 500'500);
    auto none = db.stream("SELECT 1 WHERE false");
    EXPECT_FALSE(co_await none.next());
    auto no_rows = db.stream("CREATE TEMP TABLE t (x int)");
    EXPECT_FALSE(co_await no_rows.next());
    auto nothing = db.stream("");
    EXPECT_FALSE(co_await nothing.next());
    auto wrong = db.stream("SELECT x FORM t");
    EXPECT_EQ((co_await failure_of(wrong.next())).code, "42601");
    auto late = db.stream("SELECT 1 / (500 - x) FROM generate_series(1, 1000) x");
    int rows = 0;
    failure f;
    try {
        while (co_await late.next()) { ++rows; }
    } catch (const sql::error& e) { f.code = e.code(); }
    EXPECT_EQ(rows, 499);
    EXPECT_EQ(f.code, "22012");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a stream that is dropped or closed stops its statement, and the connection goes on") {
    auto& db = co_await aio::enter(sql::connect(server()));
    for (int i = 0; i < 3; ++i) {
        auto rows = db.stream("SELECT generate_series(1, 1000000000), repeat('y', 1000)");
        co_await rows.next();
        EXPECT_CONTAINS((co_await failure_of(db.query("SELECT 1"))).what, "a stream of this sql::connection is open");
        if (i == 1) co_await rows.aclose();
        if (i == 2) {
            rows = db.stream("SELECT 1");
            EXPECT_EQ((*co_await rows.next())[0].as<int>(), 1);
        }
    }
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
    EXPECT_EQ((co_await db.query("SELECT 2"))[0][0].as<int>(), 2);
}

AIO_REAL_TEST("a stream that is dropped in a transaction leaves the transaction as it was") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x int)");
    std::optional<aio::async_generator<sql::row>> kept;
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        auto whole = db.stream("SELECT x FROM t");
        while (co_await whole.next()) {}
        for (const char* endless : {"SELECT generate_series(1, 1000000000)", "SELECT 1"}) {
            kept.emplace(db.stream(endless));
            co_await kept->next();
            kept.reset();
            co_await db.query("INSERT INTO t VALUES (2)");
        }
        kept.emplace(db.stream("SELECT generate_series(1, 1000000000)"));
        co_await kept->next();
    };
    co_await aio::with(db.transaction(), body);
    EXPECT_THROW(co_await kept->next(), std::logic_error);
    EXPECT_EQ(co_await count(db, "t"), 3);
}

// ---- pools ----

AIO_REAL_TEST("a pool replaces a connection that was lost, in use or idle") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    sql::pool pool(server(), {.max_size = 1});
    const int first = (co_await pool.query("SELECT pg_backend_pid()"))[0][0].as<int>();
    const int again = (co_await pool.query("SELECT pg_backend_pid()"))[0][0].as<int>();
    EXPECT_EQ(first, again);
    co_await observer.query("SELECT pg_terminate_backend($1, 10000)", first);  // while it is idle
    const int second = (co_await pool.query("SELECT pg_backend_pid()"))[0][0].as<int>();
    EXPECT_NE(second, first);
    EXPECT_EQ((co_await failure_of(pool.query("SELECT pg_terminate_backend(pg_backend_pid())"))).code, "57P01");
    EXPECT_EQ((co_await pool.query("SELECT 3"))[0][0].as<int>(), 3);
    co_await pool.aclose();
}

AIO_REAL_TEST("fault N13: what impatient callers of a pool have begun to connect is the next caller's") {
    faulty_proxy proxy("127.0.0.1", port_number());
    aio::event let_pass;
    proxy.plan = [&](std::size_t) {
        faulty_proxy::faults f;
        f.hold_to_client = &let_pass;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    sql::pool pool(through(proxy), {.max_size = 4});
    for (int i = 0; i < 100; ++i) {
        EXPECT_THROW(static_cast<void>(co_await aio::wait_for(pool.query("SELECT 1"), 100us)), aio::timeout_error);
    }
    EXPECT_EQ(pool.statistics().in_use, 0u);
    std::size_t in_time = 0, late = 0;
    const auto with_deadline = [&](aio::delay limit) -> aio::coro<> {
        try {
            co_await aio::wait_for(pool.query("SELECT 1"), limit);
            ++in_time;
        } catch (const aio::timeout_error&) { ++late; }
    };
    std::vector<aio::coro<>> forty;
    for (int i = 0; i < 40; ++i) forty.push_back(with_deadline(std::chrono::microseconds(200 + 50 * i)));
    co_await aio::gather(std::move(forty));
    EXPECT_EQ(late, 40u);
    EXPECT_LE(proxy.accepted(), 4u);
    let_pass.set();
    forty.clear();
    for (int i = 0; i < 40; ++i) forty.push_back(with_deadline(60s));
    co_await aio::gather(std::move(forty));
    EXPECT_EQ(in_time, 40u);
    EXPECT_LE(proxy.accepted(), 4u);  // no further connection was made
    EXPECT_LE(pool.statistics().idle, 4u);
    co_await pool.aclose();
    EXPECT_EQ(pool.statistics().idle, 0u);
}

AIO_REAL_TEST(
    "fault N13: a connect that nobody waits for any more may fail without a word; the next caller begins anew") {
    faulty_proxy proxy("127.0.0.1", port_number());
    aio::event let_pass;
    proxy.plan = [&](std::size_t connection) {
        faulty_proxy::faults f;
        f.hold_to_server = &let_pass;
        if (connection == 0) f.to_server = 1;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    sql::pool pool(through(proxy), {.max_size = 1});
    int reports = 0;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { ++reports; });
    EXPECT_THROW(static_cast<void>(co_await aio::wait_for(pool.query("SELECT 1"), 1ms)), aio::timeout_error);
    co_await proxy.until_accepted(1);
    let_pass.set();
    const failure f = co_await failure_of(pool.query("SELECT 1"));  // may get the attempt that fails
    if (f.what != "nothing") { EXPECT_EQ(f.code.substr(0, 2), "08"); }
    EXPECT_EQ((co_await pool.query("SELECT 2"))[0][0].as<int>(), 2);
    EXPECT_EQ(proxy.accepted(), 2u);
    co_await pool.aclose();
    EXPECT_EQ(reports, 0);
}

AIO_REAL_TEST("fault N13: closing a pool ends its attempts to connect and sends away who waits for them") {
    const silent_server silent;
    for (int turns = 0; turns < 8; ++turns) {
        sql::pool pool(silent.url(), {.max_size = 3});
        std::vector<aio::task<sql::rows>> waiting;
        for (int i = 0; i < 5; ++i) waiting.push_back(aio::create_task(pool.query("SELECT 1")));
        co_await aio_test::turns(turns);
        waiting[1].cancel();
        auto closing = aio::create_task(pool.aclose());
        auto cancelled = aio::create_task(pool.aclose());
        co_await aio_test::turns(turns % 3);
        cancelled.cancel();
        co_await closing;
        EXPECT_EQ(pool.statistics().in_use, 0u);
        for (std::size_t i = 0; i < waiting.size(); ++i) {
            if (i == 1) {
                EXPECT_THROW(co_await waiting[i], aio::cancelled_error);
            } else {
                EXPECT_THROW(co_await waiting[i], std::logic_error);
            }
        }
    }
    std::optional<sql::pool> dropped(std::in_place, silent.url());
    auto waiting = aio::create_task(dropped->query("SELECT 1"));
    co_await aio_test::turns(4);
    dropped.reset();
    EXPECT_THROW(co_await waiting, std::logic_error);
    for (int i = 0; i < 100 && tasks_alive() > 1; ++i) co_await aio::sleep(0s);
    EXPECT_EQ(tasks_alive(), 1u);  // no attempt to connect is left
}

AIO_REAL_TEST(
    "connections of a pool come to those who wait in the order in which they came, whoever began to connect") {
    faulty_proxy proxy("127.0.0.1", port_number());
    aio::event let_pass;
    proxy.plan = [&](std::size_t) {
        faulty_proxy::faults f;
        f.hold_to_client = &let_pass;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    sql::pool pool(through(proxy), {.max_size = 2});
    aio_test::journal order;
    std::vector<aio::task<>> jobs;
    for (int i = 0; i < 6; ++i) {
        jobs.push_back(aio::create_task([&pool, &order, i]() -> aio::coro<> {
            auto conn = co_await pool.acquire();
            order(std::to_string(i));
            co_await conn->query("SELECT 1");
        }));
    }
    co_await proxy.until_accepted(2);
    jobs[0].cancel();
    jobs[3].cancel();
    let_pass.set();
    for (int i : {1, 2, 4, 5}) co_await jobs[static_cast<std::size_t>(i)];
    EXPECT_EQ(order.text(), "1 2 4 5");
    EXPECT_EQ(proxy.accepted(), 2u);
    co_await pool.aclose();
}

PLAIN_TEST("cancelled at any step while it connects, a pool is whole") {
    const auto scenario = [&]() -> aio::coro<> {
        const std::size_t tasks_before = tasks_alive();
        sql::pool pool(server(), {.max_size = 2});
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
        EXPECT_EQ(tasks_alive(), tasks_before);
        if (cancelled) std::rethrow_exception(cancelled);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] {}), 10u);
}

AIO_REAL_TEST("users.md 22: cancelled queries of a pool leave it full of connections that work") {
    sql::pool pool(server(), {.max_size = 3});
    std::vector<aio::task<sql::rows>> jobs;
    for (int i = 0; i < 9; ++i) jobs.push_back(aio::create_task(pool.query("SELECT pg_sleep(60)")));
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        for (std::size_t turn = 0; turn < i * 3; ++turn) co_await aio::sleep(0s);
        jobs[i].cancel();
    }
    for (auto& job : jobs) EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_EQ(pool.statistics().in_use, 0u);
    std::vector<aio::task<sql::rows>> checks;
    for (int i = 0; i < 30; ++i) checks.push_back(aio::create_task(pool.query("SELECT $1::int", i)));
    for (int i = 0; i < 30; ++i) EXPECT_EQ((co_await checks[static_cast<std::size_t>(i)])[0][0].as<int>(), i);
    co_await pool.aclose();
}

AIO_REAL_TEST("a cancelled stream leaves the connection usable") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    auto reading = aio::create_task([&]() -> aio::coro<> {
        auto rows = db.stream("SELECT 1 UNION ALL SELECT length(pg_sleep(60)::text)");
        while (co_await rows.next()) {}
    });
    co_await until_active(observer, backend, sleeping);
    reading.cancel();
    EXPECT_THROW(co_await reading, aio::cancelled_error);
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

// ---- cancellation ----

AIO_REAL_TEST("decision (b): a cancelled query is cancelled on the server, and the connection can be used") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    for (int i = 0; i < 10; ++i) {
        auto job = aio::create_task(db.query("SELECT pg_sleep(60)"));
        if (i % 2 == 0) {
            co_await until_active(observer, backend, sleeping);
        } else {
            for (int turn = 0; turn < i; ++turn) co_await aio::sleep(0s);
        }
        job.cancel("enough");
        job.cancel("enough");
        std::string message;
        try {
            co_await job;
        } catch (const aio::cancelled_error& e) { message = e.message(); }
        EXPECT_EQ(message, "enough");
        EXPECT_EQ((co_await db.query("SELECT $1::int", i))[0][0].as<int>(), i);
    }
}

AIO_REAL_TEST(
    "fault N1: a request to cancel that is under way is over before the connection's next statement is sent") {
    faulty_proxy proxy("127.0.0.1", port_number());
    aio::event let_cancel_pass;
    proxy.plan = [&](std::size_t connection) {
        faulty_proxy::faults f;
        if (connection % 2 == 1) f.hold_to_server = &let_cancel_pass;  // the odd ones are the requests to cancel
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    auto& observer = co_await aio::enter(sql::connect(server()));
    // A row comes in spite of the cancel, and the stream is read to its end. Only the request to cancel is still under
    // way.
    auto read_all = [&](sql::connection& db) -> aio::coro<> {
        auto rows = db.stream("SELECT pg_advisory_lock(7)::text");
        EXPECT_TRUE(co_await rows.next());
        EXPECT_EQ(aio::current_task().uncancel(), 0);
        EXPECT_FALSE(co_await rows.next());
    };
    for (const bool pooled : {false, true}) {
        let_cancel_pass.clear();
        sql::pool pool(through(proxy), {.max_size = 1});
        const std::size_t before = proxy.accepted();
        auto reading = aio::create_task([&]() -> aio::coro<> {
            auto conn = co_await pool.acquire();
            const int backend = co_await backend_of(*conn);
            co_await observer.query("SELECT pg_advisory_lock(7)");
            auto job = aio::create_task(read_all(*conn));
            co_await until_active(observer, backend, "wait_event_type = 'Lock'");
            job.cancel();
            co_await proxy.until_accepted(before + 2);
            co_await observer.query("SELECT pg_advisory_unlock(7)");
            co_await job;
            if (!pooled) {
                auto next = aio::create_task(conn->query("SELECT 5 FROM pg_sleep(0.1)"));
                co_await exchanges(observer, 5);
                let_cancel_pass.set();
                EXPECT_EQ((co_await next)[0][0].as<int>(), 5);
            }
        });
        co_await reading;
        auto others = aio::create_task(pool.query("SELECT 6 FROM pg_sleep(0.1)"));
        co_await exchanges(observer, 5);
        let_cancel_pass.set();
        EXPECT_EQ((co_await others)[0][0].as<int>(), 6);
        co_await pool.aclose();
    }
}

AIO_REAL_TEST("fault N1: rows given in spite of a deadline leave nothing that cancels the next query") {
    std::chrono::duration<double> limit{0.001};  // is adapted to the time that the query takes
    std::size_t in_time = 0, late = 0;
    auto try_one = [&](sql::connection& db) -> aio::coro<> {
        auto rows = db.stream("SELECT x FROM generate_series(1, 6) x, pg_sleep(0.0005)");
        std::string code;
        try {
            while (co_await aio::wait_for(rows.next(), limit)) {}
            limit *= 0.97;
            ++in_time;
        } catch (const aio::timeout_error&) {
            limit *= 1.03;
            ++late;
        } catch (const sql::error& e) { code = e.code(); }
        if (!code.empty()) { EXPECT_EQ(code, "57014"); }
    };
    const char* more = std::getenv("AIO_SQL_ROUNDS");
    const int rounds = more ? std::atoi(more) : 150;
    auto& db = co_await aio::enter(sql::connect(server()));
    sql::pool pool(server(), {.max_size = 1});
    // On a busy machine it takes longer until the limit fits.
    for (int i = 0; i < rounds || ((in_time <= 20 || late <= 20) && i < 20 * rounds); ++i) {
        co_await try_one(db);
        EXPECT_EQ((co_await db.query("SELECT $1::int", i))[0][0].as<int>(), i);
        {
            auto conn = co_await pool.acquire();
            co_await try_one(*conn);
        }
        EXPECT_EQ((co_await pool.query("SELECT $1::int", i))[0][0].as<int>(), i);
    }
    EXPECT_GT(in_time, 20u);
    EXPECT_GT(late, 20u);
    co_await pool.aclose();
}

AIO_REAL_TEST(
    "fault N2: a row given in spite of a cancel, then a statement that the server stops: the next row is 57014") {
    faulty_proxy proxy("127.0.0.1", port_number());
    aio::event let_cancel_pass, let_rows_pass;
    let_rows_pass.set();
    proxy.plan = [&](std::size_t connection) {
        faulty_proxy::faults f;
        if (connection == 0) f.hold_to_client = &let_rows_pass;
        if (connection == 1) f.hold_to_server = &let_cancel_pass;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(through(proxy)));
    const int backend = co_await backend_of(db);
    co_await observer.query("SELECT pg_advisory_lock(7)");
    let_rows_pass.clear();
    int rows_read = 0;
    failure f;
    std::exception_ptr of_group;
    auto job = aio::create_task([&]() -> aio::coro<> {
        auto rows = db.stream(
            "SELECT x, repeat('y', 20000), CASE WHEN x = 3 THEN pg_advisory_lock(7)::text END FROM generate_series(1, "
            "3) x");
        if (co_await rows.next()) { ++rows_read; }
        EXPECT_EQ(aio::current_task().uncancel(), 0);  // as wait_for() does if the result overtakes its deadline
        let_cancel_pass.set();
        auto rest = [&]() -> aio::coro<> {
            while (co_await rows.next()) { ++rows_read; }
        };
        f = co_await failure_of(rest());
    });
    co_await until_active(observer, backend, "wait_event_type = 'Lock'");
    job.cancel();
    co_await proxy.until_accepted(2);
    let_rows_pass.set();
    co_await job;
    EXPECT_GE(rows_read, 1);
    EXPECT_LT(rows_read, 3);
    EXPECT_EQ(f.code, "57014");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST(
    "a cancel that is withdrawn while the server stops the statement is the server's 57014, no cancelled_error") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    failure f;
    auto job = aio::create_task([&]() -> aio::coro<> { f = co_await failure_of(db.query("SELECT pg_sleep(60)")); });
    co_await until_active(observer, backend, sleeping);
    job.cancel();
    job.uncancel();
    co_await job;
    EXPECT_EQ(f.code, "57014");
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
}

AIO_REAL_TEST("a connection closed with a stream open has stopped its statement on the server") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto rows = db.stream("SELECT generate_series(1, 1000000000)");
    co_await rows.next();
    co_await connecting.exit(nullptr);
    for (;;) {
        const sql::rows left = co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1", backend);
        if (left.empty()) break;
        co_await aio::sleep(1ms);
    }
}

PLAIN_TEST(
    "a connection may outlive its loop while a request to cancel is on its way; the loop finds deadlocks after one") {
    std::unique_ptr<sql::pool> pool;
    aio::run([](std::unique_ptr<sql::pool>& p) -> aio::coro<> {
        p = std::make_unique<sql::pool>(server(), sql::pool_options{.max_size = 1});
        auto conn = co_await p->acquire();
        auto rows = conn->stream("SELECT generate_series(1, 1000000000)");
        co_await rows.next();
    }(pool));  // drops the stream, which begins a request to cancel
    pool.reset();
    EXPECT_THROW(aio::run([]() -> aio::coro<> {
        auto& db = co_await aio::enter(sql::connect(server()));
        {
            auto rows = db.stream("SELECT generate_series(1, 1000000000)");
            co_await rows.next();
        }
        co_await db.query("SELECT 1");
        aio::future<int> never;
        co_await never;
    }()),
        aio::deadlock_error);
}

AIO_REAL_TEST("cancelled again and again while it is being cancelled, a query ends once and the connection is good") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    auto job = aio::create_task(db.query("SELECT pg_sleep(60)"));
    co_await until_active(observer, backend, sleeping);
    while (!job.done()) {
        job.cancel();
        co_await aio::sleep(0s);
    }
    EXPECT_TRUE(job.cancelled());
    EXPECT_EQ((co_await db.query("SELECT 7"))[0][0].as<int>(), 7);
}

AIO_REAL_TEST(
    "a transaction that is cancelled is rolled back, and a cancelled statement inside one leaves it to its end") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto& db = co_await aio::enter(sql::connect(server()));
    const int backend = co_await backend_of(db);
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        co_await db.query("SELECT pg_sleep(60)");
    };
    auto nested = [&]() -> aio::coro<> { co_await aio::with(db.transaction(), body); };
    auto run = [&]() -> aio::coro<> { co_await aio::with(db.transaction(), nested); };
    auto job = aio::create_task(run);
    co_await until_active(observer, backend, sleeping);
    job.cancel();
    EXPECT_THROW(co_await job, aio::cancelled_error);
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a rollback is made although a cancel is pending") {
    auto& db = co_await aio::enter(sql::connect(server()));
    co_await db.query("CREATE TEMP TABLE t (x INTEGER)");
    auto body = [&]() -> aio::coro<> {
        co_await db.query("INSERT INTO t VALUES (1)");
        aio::current_task().cancel();
        throw std::runtime_error("and cancelled");
    };
    auto run = [&]() -> aio::coro<> { co_await aio::with(db.transaction(), body); };
    auto job = aio::create_task(run);
    EXPECT_THROW(co_await job, std::runtime_error);
    EXPECT_EQ(co_await count(db, "t"), 0);
}

AIO_REAL_TEST("a cancel ends an attempt to connect at once; connect_timeout does in the end") {
    const silent_server silent;
    auto job = aio::create_task([&]() -> aio::coro<> { co_await aio::with(sql::connect(silent.url()), [] {}); });
    co_await silent.until_asked();
    EXPECT_FALSE(job.done());
    job.cancel();
    EXPECT_THROW(co_await job, aio::cancelled_error);
    const failure f = co_await failure_to_connect(silent.url() + "?connect_timeout=1");
    EXPECT_EQ(f.code, "08001");
    EXPECT_CONTAINS(f.what, "cannot connect to PostgreSQL at 127.0.0.1: no answer within 1 seconds");
}

AIO_REAL_TEST("users.md 22: a connection whose cancelled query cannot be ended in time is closed, never used again") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto job = aio::create_task(db.query("SELECT pg_sleep(60)"));
    co_await until_active(observer, backend, sleeping);
    AIO_REQUIRE(::kill(backend, SIGSTOP) == 0);  // the backend does not receive the cancel now
    job.cancel();
    EXPECT_THROW(co_await job, aio::cancelled_error);
    ::kill(backend, SIGCONT);
    EXPECT_FALSE(db.usable());
    const failure f = co_await failure_of(db.query("SELECT 1"));
    EXPECT_EQ(f.code, "08003");
    EXPECT_CONTAINS(f.what, "did not end a cancelled statement within 5 seconds");
    co_await connecting.exit(nullptr);
}

AIO_REAL_TEST("a rollback that is not answered ends with its connection, and the body's error is told") {
    auto connecting = sql::connect(server());
    sql::connection& db = co_await connecting.enter();
    const int backend = co_await backend_of(db);
    auto body = [&]() -> aio::coro<> {
        co_await db.query("SELECT 1");
        AIO_REQUIRE(::kill(backend, SIGSTOP) == 0);
        throw std::runtime_error("the body's");
    };
    EXPECT_EQ((co_await failure_of(aio::with(db.transaction(), body))).what, "the body's");
    ::kill(backend, SIGCONT);
    EXPECT_FALSE(db.usable());
    co_await connecting.exit(nullptr);
}

PLAIN_TEST("cancelled at any step, a connection leaves nothing behind and a transaction is whole or not there") {
    aio_test::cancel_transactions_at_every_step(server());
}

// ---- a network with faults ----

AIO_REAL_TEST(
    "wherever the network cuts a connection, everything ends with its result or with an error, and a pool recovers") {
    std::size_t to_server = 0, to_client = 0;
    std::optional<faulty_proxy::faults> of_first;
    faulty_proxy proxy("127.0.0.1", port_number());
    proxy.plan = [&](std::size_t) {
        const faulty_proxy::faults f = of_first.value_or(faulty_proxy::faults());
        of_first.reset();
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    auto& observer = co_await aio::enter(sql::connect(server()));
    co_await observer.query("CREATE TABLE cuts (x INTEGER)");
    std::int64_t committed = 0, unknown = 0;
    // Does all that a connection does: queries, streams, commits, cancels.
    const auto session = [&](sql::pool& pool) -> aio::coro<> {
        auto conn = co_await pool.acquire();
        co_await conn->query("SELECT $1::text", std::string(2000, 'x'));
        auto rows = conn->stream("SELECT repeat('y', 100) FROM generate_series(1, 50)");
        int n = 0;
        while (co_await rows.next()) { ++n; }
        EXPECT_EQ(n, 50);
        ++unknown;
        co_await aio::with(
            conn->transaction(), [&]() -> aio::coro<> { co_await conn->query("INSERT INTO cuts VALUES (1)"); });
        --unknown;
        ++committed;
        {
            auto dropped = conn->stream("SELECT generate_series(1, 1000000000)");
            co_await dropped.next();
        }
        co_await conn->query("SELECT 1");
        auto cancelled = aio::create_task(conn->query("SELECT pg_sleep(60)"));
        co_await aio_test::turns(5);
        cancelled.cancel();
        try {
            co_await cancelled;
        } catch (const aio::cancelled_error&) {}
        co_await conn->query("SELECT 2");
    };
    const auto attempt = [&](std::optional<faulty_proxy::faults> faults) -> aio::coro<bool> {
        sql::pool pool(through(proxy), {.max_size = 1});
        of_first = faults;
        bool whole = false;
        try {
            co_await aio::wait_for(session(pool), 30s);
            whole = true;
        } catch (const sql::error& e) {
            EXPECT_TRUE(e.code().starts_with("08") || e.code().starts_with("57P")) << e.what();
            EXPECT_FALSE(contains(e.what(), "secret") || contains(e.what(), "\n")) << e.what();
        } catch (const std::system_error&) {}
        of_first.reset();
        EXPECT_EQ((co_await aio::wait_for(pool.query("SELECT 5"), 30s))[0][0].as<int>(), 5);  // the pool has recovered
        co_await aio::wait_for(pool.aclose(), 30s);
        EXPECT_EQ(pool.statistics().in_use, 0u);
        co_return whole;
    };
    EXPECT_TRUE(co_await attempt(std::nullopt));
    to_server = proxy.bytes_to_server() - 300;  // so that the last query of a session comes after these limits
    to_client = proxy.bytes_to_client() - 500;
    std::mt19937 random(7);
    std::size_t broken = 0, tries = 0;
    const char* more = std::getenv("AIO_SQL_ROUNDS");
    const int rounds = more ? std::atoi(more) : 40;
    for (int i = 0; i < rounds; ++i) {
        faulty_proxy::faults f;
        const bool to = i % 2 == 0;
        (to ? f.to_server : f.to_client) =
            std::uniform_int_distribution<std::size_t>(0, to ? to_server : to_client)(random);
        f.reset = i % 4 < 2;
        f.piece = i % 3 == 0 ? 7 : 16384;
        if (i % 5 == 0) f.delay = 100us;
        ++tries;
        const bool whole = co_await attempt(f);
        if (!whole) ++broken;
    }
    EXPECT_GT(broken, tries / 2);
    const std::int64_t there = co_await count(observer, "cuts");
    EXPECT_GE(there, committed);
    EXPECT_LE(there, committed + unknown);
    co_await observer.query("DROP TABLE cuts");
}
