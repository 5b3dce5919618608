// scaling_server PORT THREADS DATABASE: /plaintext, /json and /sqlite, served by this many threads, until it is
// interrupted. ./dev bench --scaling makes the database, and measures what a request costs with one thread and with
// two.

#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

namespace http = aio::http;
namespace sql = aio::sql;

std::string database;  // its URL

std::string items() {
    nlohmann::json all = nlohmann::json::array();
    for (int i = 0; i < 100; ++i)
        all.push_back({{"id", i}, {"name", "item " + std::to_string(i)}, {"sold", i % 2 == 0}});
    return all.dump();
}

// Each thread has a connection of its own.
aio::coro<std::string> names() {
    thread_local sql::pool pool(database, {.max_size = 1});
    const sql::rows found = co_await pool.query("SELECT id, name FROM items WHERE id > $1 ORDER BY id LIMIT 50", 500);
    std::string all;
    for (const sql::row row : found) {
        all += row[1].as<std::string>();
        all += '\n';
    }
    co_return all;
}

aio::coro<http::response> answer(http::request request) {
    if (request.path() == "/json") {
        co_return http::response(200, items(), http::headers("Content-Type", "application/json"));
    }
    const auto plain = http::headers("Content-Type", "text/plain");
    if (request.path() == "/sqlite") {
        std::string all = co_await names();
        co_return http::response(200, std::move(all), plain);
    }
    co_return http::response(200, "hello, world\n", plain);
}

aio::coro<int> serve(int count, char** arguments) {
    if (count != 4) {
        std::fputs("usage: scaling_server PORT THREADS DATABASE\n", stderr);
        co_return 2;
    }
    database = std::string("sqlite:///") + arguments[3];
    const http::server_options options{.backlog = 1000, .threads = static_cast<std::size_t>(std::atoi(arguments[2]))};
    co_await http::serve(answer, "127.0.0.1", std::atoi(arguments[1]), options);
    co_return 0;
}

}  // namespace

int main(int count, char** arguments) { return aio::run_main(serve(count, arguments)); }
