// The code of docs/guide/sql.md: `./dev rules` checks that each C++ block there stands here word for word. It runs on
// SQLite, and where a server is needed on PostgreSQL.

#include "sql_test.hpp"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace {

namespace sql = aio::sql;

struct user {
    int id;
    std::string name;
    std::optional<int> age;
};

aio::coro<> make_users(sql::connection& db) {
    co_await db.query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER)");
    co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 1, "Ann", 41);
    co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", 2, "Bob", std::nullopt);
}

aio::coro<std::string> first_steps(std::string url) {
    auto& db = co_await aio::enter(sql::connect(url));  // closed at the end of this coroutine
    co_await make_users(db);

    sql::rows found = co_await db.query("SELECT name, age FROM users WHERE id = $1", 2);
    for (const sql::row& row : found) {
        auto name = row["name"].as<std::string>();
        auto age = row["age"].as<std::optional<int>>();  // NULL is std::nullopt
        if (!age) co_return name + " tells nobody";
    }
    co_return "nobody";
}

aio::coro<std::vector<user>> everybody(sql::connection& db) {
    sql::rows found = co_await db.query("SELECT id, name, age FROM users ORDER BY id");
    co_return found.as<user>();
}

aio::coro<> move_money(sql::connection& db, int from, int to, int amount) {
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> {
        co_await db.query("UPDATE accounts SET cents = cents - $2 WHERE id = $1", from, amount);
        co_await db.query("UPDATE accounts SET cents = cents + $2 WHERE id = $1", to, amount);
    });
}

aio::coro<bool> add_user(sql::connection& db, user u) {
    try {
        co_await db.query("INSERT INTO users VALUES ($1, $2, $3)", u.id, u.name, u.age);
    } catch (const sql::error& e) {
        if (e.code() == "23505" || e.code().starts_with("SQLITE_CONSTRAINT")) co_return false;  // it is there already
        throw;
    }
    co_return true;
}

aio::coro<int> oldest(sql::connection& db) {
    int most = 0;
    auto rows = db.stream("SELECT age FROM users WHERE age IS NOT NULL");
    while (auto row = co_await rows.next()) { most = std::max(most, (*row)[0].as<int>()); }
    co_return most;
}

aio::coro<std::size_t> add_many(sql::connection& db, int from, int to) {
    std::vector<std::tuple<int, std::string, int>> users;
    for (int id = from; id < to; ++id) users.emplace_back(id, "user " + std::to_string(id), id % 90);
    sql::rows done = co_await db.execute_many("INSERT INTO users VALUES ($1, $2, $3)", users);
    co_return done.affected();
}

aio::coro<std::size_t> copy_many(sql::connection& db, std::vector<std::tuple<int, std::string, int>> users) {
    sql::rows done = co_await db.copy_in("COPY users FROM STDIN", users);
    co_return done.affected();
}

aio::async_generator<std::string> text_of(std::filesystem::path csv) {
    auto lines = aio::read_lines(csv);
    while (auto line = co_await lines.next()) { co_yield *line + "\n"; }
}

aio::coro<std::size_t> load_csv(sql::connection& db, std::filesystem::path csv) {
    sql::rows done = co_await db.copy_in("COPY users FROM STDIN (FORMAT csv)", text_of(std::move(csv)));
    co_return done.affected();
}

aio::coro<std::string> name_of(sql::pool& pool, int id) {
    sql::rows found = co_await pool.query("SELECT name FROM users WHERE id = $1", id);
    co_return found.size() == 1 ? found[0][0].as<std::string>() : "nobody";
}

aio::coro<std::vector<std::string>> names_of(sql::pool& pool, std::vector<int> ids) {
    auto name = [&pool](int id) { return name_of(pool, id); };
    co_return co_await (ids | aio::views::concurrent(10, name) | aio::to<std::vector>());
}

aio::coro<> rename_all(sql::pool& pool) {
    auto db = co_await pool.acquire();  // several statements on one connection
    co_await aio::with(db->transaction(), [&]() -> aio::coro<> {
        co_await db->query("UPDATE users SET name = upper(name)");
        co_await db->query("DELETE FROM users WHERE age > $1", 90);
    });
}  // the connection goes back to the pool

aio::coro<std::string> first_word(std::string url) {
    auto& hears = co_await aio::enter(sql::connect(url));
    auto& says = co_await aio::enter(sql::connect(url));
    auto words = hears.listen("words");
    auto first = aio::create_task(words.next());  // the server hears of it first
    co_await aio::sleep(0s);                      // the task begins
    co_await hears.query("SELECT 1");             // and the server has heard of it
    co_await says.notify("words", "hello");
    auto heard = co_await first;
    co_return heard ? heard->payload : "";
}

aio::coro<> use_everything(sql::connection& db) {
    co_await db.query("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)");
    co_await db.query("INSERT INTO accounts VALUES (1, 500), (2, 0)");
    co_await move_money(db, 1, 2, 200);
    EXPECT_EQ((co_await db.query("SELECT cents FROM accounts WHERE id = 2"))[0][0].as<int>(), 200);
    co_await make_users(db);
    const user again{1, "Ann", 41}, other{3, "Cyd", 7};
    EXPECT_FALSE(co_await add_user(db, again));
    EXPECT_TRUE(co_await add_user(db, other));
    EXPECT_EQ((co_await everybody(db)).at(2).name, "Cyd");
    EXPECT_EQ(co_await oldest(db), 41);
    EXPECT_EQ(co_await add_many(db, 100, 300), 200u);
}

}  // namespace

AIO_REAL_TEST("the guide's first steps, and all that works on both databases, on SQLite") {
    EXPECT_EQ(co_await first_steps("sqlite::memory:"), "Bob tells nobody");
    auto& db = co_await aio::enter(sql::connect("sqlite::memory:"));
    co_await use_everything(db);
}

AIO_REAL_TEST("the guide's pool on a file of SQLite") {
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    const std::string url = "sqlite:///" + folder.string() + "/users.db";
    sql::pool pool(url);
    {
        auto db = co_await pool.acquire();
        co_await make_users(*db);
        EXPECT_EQ(co_await add_many(*db, 100, 200), 100u);
    }
    const std::vector<int> ids{1, 2, 150, 7};
    const std::vector<std::string> names{"Ann", "Bob", "user 150", "nobody"};
    EXPECT_EQ(co_await names_of(pool, ids), names);
    co_await rename_all(pool);
    EXPECT_EQ(co_await name_of(pool, 1), "ANN");
    co_await pool.aclose();
}

AIO_REAL_TEST("the guide's code on PostgreSQL") {
    const char* server = std::getenv("AIO_TEST_POSTGRES");
    if (!server) throw std::runtime_error("AIO_TEST_POSTGRES is not set: run this with tests/with_postgres COMMAND");
    auto& db = co_await aio::enter(sql::connect(server));
    co_await db.query("DROP SCHEMA IF EXISTS guide CASCADE; CREATE SCHEMA guide; SET search_path = guide");
    co_await use_everything(db);
    std::vector<std::tuple<int, std::string, int>> more{{1000, "Dan", 8}, {1001, "Eve", 9}};
    EXPECT_EQ(co_await copy_many(db, more), 2u);
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    co_await aio::write_file(folder / "users.csv", "2000,\"Fay, the third\",10\n2001,Gus,\n");
    EXPECT_EQ(co_await load_csv(db, folder / "users.csv"), 2u);
    EXPECT_EQ(co_await first_word(server), "hello");
    co_await db.query("DROP SCHEMA guide CASCADE");
}
