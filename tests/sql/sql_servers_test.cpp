// PostgreSQL as people run it: behind PgBouncer, over TLS, several hosts. tests/with_postgres starts the server.
#include "other_program.hpp"
#include "sql_test.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>

namespace {

namespace sql = aio::sql;

std::string server() {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    if (!url) throw std::runtime_error("AIO_TEST_POSTGRES is not set: run this with tests/with_postgres COMMAND");
    return url;
}
std::string port() {
    const std::string url = server();
    const std::size_t at = url.find("127.0.0.1:") + 10;
    return url.substr(at, url.find('/', at) - at);
}

template<class Awaitable>
aio::coro<std::string> code_of(Awaitable operation) {
    try {
        co_await std::move(operation);
    } catch (const sql::error& e) { co_return e.code(); }
    co_return "nothing";
}

/// A folder that everybody may read, with one file in it.
class folder {
public:
    folder() {
        std::string name = std::filesystem::temp_directory_path() / "aio_servers.XXXXXX";
        AIO_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
        std::filesystem::permissions(path_, std::filesystem::perms(0755));
    }
    ~folder() { std::filesystem::remove_all(path_); }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    std::string write(const std::string& name, const std::string& text) const {
        const std::filesystem::path file = path_ / name;
        std::ofstream(file) << text;
        return file;
    }

private:
    std::filesystem::path path_;
};

/// A PgBouncer in front of the server, with at most two connections to it.
class bouncer {
public:
    explicit bouncer(const std::string& mode) : port_(aio_test::free_port()) {
        const std::string users = files_.write("users.txt", "\"aio\" \"secret\"\n");
        const std::string settings = files_.write("pgbouncer.ini",
            "[databases]\naio = host=127.0.0.1 port=" + port() + " dbname=aio user=aio password=secret\n" +
                "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = " + std::to_string(port_) +
                "\nunix_socket_dir =\nauth_type = plain\nauth_file = " + users + "\npool_mode = " + mode +
                "\ndefault_pool_size = 2\nmax_client_conn = 50\nlog_connections = 0\nlog_disconnections = 0\n");
        const std::string user = ::geteuid() == 0 ? "-u postgres " : "";
        program_.emplace(std::vector<std::string>{"sh", "-c", "exec pgbouncer " + user + settings + " 2>&1"});
    }
    std::string url() const { return "postgresql://aio:secret@127.0.0.1:" + std::to_string(port_) + "/aio"; }
    /// Waits until it says that it is up.
    aio::coro<> until_ready() {
        for (;;) {
            const std::string line = co_await program_->line();
            if (line.empty()) throw std::runtime_error("pgbouncer has ended");
            if (aio_test::contains(line, "process up")) co_return;
        }
    }

private:
    folder files_;
    int port_;
    std::optional<aio_test::other_program> program_;
};

aio::coro<> until_somebody_sleeps(sql::connection& observer) {
    for (;;) {
        const sql::rows found = co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        if (!found.empty()) co_return;
        co_await aio::sleep(1ms);
    }
}

aio::coro<> ask(sql::connection& db, int who, int times, int& failed) {
    for (int i = 0; i < times; ++i) {
        std::string code;
        try {
            const sql::rows rows = co_await db.query("SELECT $1::int + " + std::to_string(who), i);
            EXPECT_EQ(rows[0][0].as<int>(), who + i);
        } catch (const sql::error& e) { code = e.code(); }
        if (!code.empty()) ++failed;
        co_await aio::sleep(0s);
    }
}

}  // namespace

AIO_REAL_TEST("behind PgBouncer statements are prepared, or are not, and no query notices it") {
    auto& observer = co_await aio::enter(sql::connect(server()));
    for (const char* mode : {"session", "transaction"}) {
        bouncer pool_of_servers(mode);
        co_await pool_of_servers.until_ready();
        int failed = 0;
        {
            auto& first = co_await aio::enter(sql::connect(pool_of_servers.url()));
            auto& second = co_await aio::enter(sql::connect(pool_of_servers.url()));
            // What the one has prepared is in the other's server half of the time.
            co_await aio::gather(ask(first, 100, 50, failed), ask(second, 100, 50, failed), ask(first, 100, 50, failed),
                ask(second, 200, 50, failed));
            auto job = aio::create_task(first.query("SELECT pg_sleep(60)"));
            co_await until_somebody_sleeps(observer);
            job.cancel();
            EXPECT_THROW(co_await job, aio::cancelled_error);
            EXPECT_EQ((co_await first.query("SELECT 1"))[0][0].as<int>(), 1);
        }
        EXPECT_EQ(failed, 0) << mode;
    }
}

AIO_REAL_TEST("behind PgBouncer in transaction mode, transactions work where nothing is prepared") {
    bouncer pool_of_servers("transaction");
    co_await pool_of_servers.until_ready();
    sql::connect_options unprepared{.statement_cache = 0};
    auto& first = co_await aio::enter(sql::connect(pool_of_servers.url(), unprepared));
    auto& second = co_await aio::enter(sql::connect(pool_of_servers.url(), unprepared));
    co_await first.query("DROP TABLE IF EXISTS bounced; CREATE TABLE bounced (x INTEGER)");
    const auto fill = [](sql::connection& db, int from) -> aio::coro<> {
        for (int i = 0; i < 20; ++i) {
            auto body = [&]() -> aio::coro<> {
                co_await db.query("INSERT INTO bounced VALUES ($1)", from + i);
                co_await db.query("INSERT INTO bounced VALUES ($1)", from + i);
            };
            co_await aio::with(db.transaction(), body);
        }
    };
    co_await aio::gather(fill(first, 0), fill(second, 100));
    EXPECT_EQ(co_await aio_test::count(first, "bounced"), 80);
    co_await first.query("DROP TABLE bounced");
}

AIO_REAL_TEST("a PgBouncer that ends in the middle of transactions is their error, and nothing of them is left") {
    sql::connect_options unprepared{.statement_cache = 0};
    auto& observer = co_await aio::enter(sql::connect(server()));
    co_await observer.query("DROP TABLE IF EXISTS left_over; CREATE TABLE left_over (x INTEGER)");
    std::optional<bouncer> between(std::in_place, "transaction");
    co_await between->until_ready();
    auto& first = co_await aio::enter(sql::connect(between->url(), unprepared));
    auto& second = co_await aio::enter(sql::connect(between->url(), unprepared));
    const auto work = [](sql::connection& db) -> aio::coro<> {
        auto body = [&]() -> aio::coro<> {
            co_await db.query("INSERT INTO left_over VALUES ($1)", 1);
            const auto neighbour = aio::create_task(code_of(db.query("INSERT INTO left_over VALUES ($1)", 2)));
            co_await db.query("SELECT pg_sleep(60)");
        };
        co_await aio::with(db.transaction(), body);
    };
    auto one = aio::create_task(code_of(work(first)));
    auto other = aio::create_task(code_of(work(second)));
    while ((co_await observer.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")).size() < 2) {
        co_await aio::sleep(1ms);
    }
    between.reset();
    for (auto* job : {&one, &other}) {
        const std::string code = co_await aio::wait_for(std::move(*job), 30s);
        EXPECT_TRUE(code.starts_with("08") || code == "57P01") << code;  // PgBouncer may say that it ends
    }
    EXPECT_FALSE(first.usable() || second.usable());
    EXPECT_EQ(co_await code_of(first.query("SELECT 1")), "08003");
    co_await observer.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    while (!(co_await observer.query("SELECT 1 FROM pg_locks WHERE relation = 'left_over'::regclass")).empty()) {
        co_await aio::sleep(1ms);
    }
    EXPECT_EQ(co_await aio_test::count(observer, "left_over"), 0);
    co_await observer.query("DROP TABLE left_over");
}

AIO_REAL_TEST("over TLS everything works; a server that cannot prove who it is gets no password") {
    const folder files;
    auto& plain = co_await aio::enter(sql::connect(server() + "?sslmode=disable"));
    const std::string tls = server() + "?sslmode=require";
    auto refused = sql::connect(tls);
    EXPECT_EQ(co_await code_of(refused.enter()), "08001");  // the server has no TLS yet
    co_await refused.exit(nullptr);
    co_await plain.query(
        "COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
        "subjectAltName=IP:127.0.0.1 -keyout server.key -out server.crt 2>/dev/null && chmod 600 server.key'");
    co_await plain.query("ALTER SYSTEM SET ssl = on");
    co_await plain.query("SELECT pg_reload_conf()");
    const std::string certificate =
        files.write("root.crt", (co_await plain.query("SELECT pg_read_file('server.crt')"))[0][0].as<std::string>());
    for (std::string ssl; ssl != "on";) { ssl = (co_await plain.query("SHOW ssl"))[0][0].as<std::string>(); }
    {
        auto& db = co_await aio::enter(sql::connect(server() + "?sslmode=verify-full&sslrootcert=" + certificate));
        EXPECT_TRUE((co_await db.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))[0][0].as<bool>());
        std::vector<aio::task<sql::rows>> jobs;
        for (int i = 0; i < 50; ++i) {
            jobs.push_back(
                aio::create_task(db.query("SELECT $1::int, repeat('x', 50000), $2", i, std::string(50'000, 'y'))));
        }
        for (int i = 0; i < 50; ++i) {
            const sql::rows rows = co_await jobs[static_cast<std::size_t>(i)];
            EXPECT_EQ(rows[0][0].as<int>(), i);
            EXPECT_EQ(rows[0][1].as<std::string>().size() + rows[0][2].as<std::string>().size(), 100'000u);
        }
        auto sleeps = aio::create_task(db.query("SELECT pg_sleep(60)"));
        co_await until_somebody_sleeps(plain);
        sleeps.cancel();
        EXPECT_THROW(co_await sleeps, aio::cancelled_error);
        auto rows = db.stream("SELECT x, repeat('z', 1000) FROM generate_series(1, 10000) x");
        int n = 0;
        while (co_await rows.next()) { ++n; }
        EXPECT_EQ(n, 10'000);
    }
    const std::string other = files.write("other.crt", "");
    for (const std::string& wrong :
        {"verify-full&sslrootcert=" + other, std::string("verify-ca&sslrootcert=/nowhere")}) {
        auto connecting = sql::connect(server() + "?sslmode=" + wrong);
        EXPECT_EQ(co_await code_of(connecting.enter()), "08001") << wrong;
        co_await connecting.exit(nullptr);
    }
    co_await plain.query("ALTER SYSTEM RESET ssl");
    co_await plain.query("SELECT pg_reload_conf()");
}

AIO_REAL_TEST("of several hosts the one that may be written to is taken") {
    const std::string hosts = "postgresql://aio:secret@127.0.0.1:1,127.0.0.1:" + port() + "/aio?target_session_attrs=";
    auto& db = co_await aio::enter(sql::connect(hosts + "read-write"));
    EXPECT_EQ((co_await db.query("SELECT 1"))[0][0].as<int>(), 1);
    auto connecting = sql::connect(hosts + "standby");
    EXPECT_EQ(co_await code_of(connecting.enter()), "08001");
    co_await connecting.exit(nullptr);
}
