// A REST service over SQLite: notes that are listed, read, written and removed, as JSON.
//
//     notes_service [PORT [FILE]]
//
// It needs aio::http, aio::sql and nlohmann-json. It prints "listening on port N" once it is ready; Ctrl-C or SIGTERM
// ends it, after the requests under way.
//
//     curl -d '{"title": "milk", "text": "two litres"}' -H 'Content-Type: application/json' localhost:8080/notes
//     curl localhost:8080/notes

#include <aio/aio.hpp>
#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

using namespace std::chrono_literals;
namespace http = aio::http;
namespace sql = aio::sql;
using nlohmann::json;

namespace {

struct note {
    int id;
    std::string title, text;
};
json to_json(const note& n) { return {{"id", n.id}, {"title", n.title}, {"text", n.text}}; }

int id_of(const http::request& request) {
    const std::string& text = request.param("id");
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) {
        throw http::refusal(404, "no such note\n");
    }
    return std::stoi(text);
}

class notes {
public:
    explicit notes(sql::pool& db) : db_(&db) {}

    http::router routes() {
        http::router app;
        app.get("/notes", [this](http::request r) { return list(std::move(r)); });
        app.get("/notes/{id}", [this](http::request r) { return show(std::move(r)); });
        app.post("/notes", [this](http::request r) { return add(std::move(r)); });
        app.del("/notes/{id}", [this](http::request r) { return remove(std::move(r)); });
        app.use(bad_json_is_400);
        return app;
    }

private:
    aio::coro<http::response> list(http::request) {
        sql::rows found = co_await db_->query("SELECT id, title, text FROM notes ORDER BY id LIMIT 1000");
        json all = json::array();
        for (const note& n : found.as<note>()) all.push_back(to_json(n));
        co_return http::response::json(all);
    }
    aio::coro<http::response> show(http::request request) {
        sql::rows found = co_await db_->query("SELECT id, title, text FROM notes WHERE id = $1", id_of(request));
        if (found.empty()) throw http::refusal(404, "no such note\n");  // (1)
        co_return http::response::json(to_json(found[0].as<note>()));
    }
    aio::coro<http::response> add(http::request request) {
        json body = request.json();
        std::string title = body.at("title"), text = body.at("text");
        sql::rows made = co_await db_->query(  // (2)
            "INSERT INTO notes (title, text) VALUES ($1, $2) RETURNING id, title, text", title, text);
        http::response r = http::response::json(to_json(made[0].as<note>()), 201);
        r.headers().set("Location", "/notes/" + std::to_string(made[0][0].as<int>()));
        co_return r;
    }
    aio::coro<http::response> remove(http::request request) {
        sql::rows gone = co_await db_->query("DELETE FROM notes WHERE id = $1", id_of(request));
        if (gone.affected() == 0) throw http::refusal(404, "no such note\n");
        co_return http::response(204);
    }
    static aio::coro<http::response> bad_json_is_400(http::request request, http::next next) {
        try {
            co_return co_await next(std::move(request));
        } catch (const json::exception& e) { co_return http::response(400, std::string(e.what()) + "\n"); }
    }
    sql::pool* db_;
};

aio::coro<> async_main(std::uint16_t port, std::string file) {
    sql::pool db("sqlite:///" + file, {.max_size = 4});  // (3)
    co_await aio::with(db, [&]() -> aio::coro<> {
        co_await db.query(
            "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, text TEXT NOT NULL)");
        notes n(db);
        auto server = co_await http::start_server(n.routes(), "127.0.0.1", port);
        co_await aio::with(server, [&]() -> aio::coro<> {
            std::printf("listening on port %d\n", server.port());
            std::fflush(stdout);
            co_await server.serve_forever();  // (4)
        });
    });
}

}  // namespace

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;
    return aio::run_main(async_main(static_cast<std::uint16_t>(port), argc > 2 ? argv[2] : "notes.db"));
}

// (1) A refusal becomes the response. Any other exception gives the client a 500, and the program's log the error with
// its trace. (2) Parameters never become part of the statement's text, so nothing can be injected. (3) Four
// connections: one writes, the others read meanwhile (WAL). (4) Ends when it is cancelled. What is left: the server
// with its requests, then the pool, in this order.
