// scaling_server PORT THREADS: /plaintext, /json and /sqlite, served by this many threads, until it is interrupted.
// ./dev bench --scaling measures what a request costs with one thread and with two.

#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <unistd.h>

namespace {

namespace http = aio::http;
namespace sql = aio::sql;

const std::string& database() {
    static const std::string url = "sqlite:////tmp/aio_scaling." + std::to_string(::getpid()) + ".db";
    return url;
}

aio::coro<> make_table() {
    auto& db = co_await aio::enter(sql::connect(database()));
    co_await db.query("PRAGMA journal_mode = WAL");
    co_await db.query("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
    for (int i = 1; i <= 1000; ++i)
        co_await db.query("INSERT INTO items VALUES ($1, $2)", i, "item " + std::to_string(i));
}

nlohmann::json items() {
    nlohmann::json all = nlohmann::json::array();
    for (int i = 0; i < 10; ++i)
        all.push_back({{"id", i}, {"name", "item " + std::to_string(i)}, {"sold", i % 2 == 0}});
    return all;
}

// Each thread has connections of its own.
aio::coro<std::string> name_of(int id) {
    thread_local sql::pool pool(database(), {.max_size = 1});
    const sql::rows found = co_await pool.query("SELECT name FROM items WHERE id = $1", id);
    co_return (*found.begin())[0].as<std::string>();
}

aio::coro<http::response> answer(http::request request) {
    const auto plain = http::headers("Content-Type", "text/plain");
    if (request.path() == "/json")
        co_return http::response(200, items().dump(), http::headers("Content-Type", "application/json"));
    if (request.path() == "/sqlite") {
        thread_local int next = 0;
        next = next % 1000 + 1;
        const std::string name = co_await name_of(next);
        co_return http::response(200, name, plain);
    }
    co_return http::response(200, "hello, world\n", plain);
}

aio::coro<int> serve(int count, char** arguments) {
    if (count != 3) {
        std::fputs("usage: scaling_server PORT THREADS\n", stderr);
        co_return 2;
    }
    co_await make_table();
    const http::server_options options{.backlog = 1000, .threads = static_cast<std::size_t>(std::atoi(arguments[2]))};
    co_await http::serve(answer, "127.0.0.1", std::atoi(arguments[1]), options);
    co_return 0;
}

}  // namespace

int main(int count, char** arguments) { return aio::run_main(serve(count, arguments)); }
