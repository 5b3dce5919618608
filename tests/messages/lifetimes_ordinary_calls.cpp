// fault P6
// clean
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/jetstream.hpp>
#include <aio/lowlevel.hpp>
#include <aio/sql.hpp>
#include <aio/testing.hpp>
#if __has_include(<nlohmann/json.hpp>)
#include <aio/http_json.hpp>
#include <aio/jetstream_json.hpp>
#include <aio/sql_json.hpp>
#endif

using namespace std::chrono_literals;
aio::coro<int> one(int i) { co_return i; }
aio::coro<> each(std::size_t) { co_return; }
int plain(int i) { return i; }

aio::coro<> in_threads() {
    co_await aio::with(aio::workers(), [](aio::workers& w) -> aio::coro<> {
        int sum = co_await w.run(&one, 1);
        sum += co_await w.run(plain, 2);
        sum += co_await w.run([](std::string s) { return static_cast<int>(s.size()); }, std::string("text"));
        auto again = [sum]() -> aio::coro<int> { co_return sum; };
        sum += co_await w.run(std::move(again));
        co_await w.run_on_each(&each);
        co_await w.run_on_each([](std::size_t) {});
        co_await w.run_on_each([](std::size_t) -> aio::coro<> { co_return; });
    });
    co_await aio::to_thread(plain, 1);
    aio::thread_pool_executor pool(1);
    co_await aio::run_in_executor(pool, plain, 1);
}

aio::coro<aio::http::response> list(const aio::http::request&) { co_return aio::http::response(200, "list"); }
aio::http::response hello() { return aio::http::response(200, "hello"); }
aio::coro<aio::http::response> timed(aio::http::request r, aio::http::next next) {
    co_return co_await next(std::move(r));
}

aio::coro<> serve() {
    aio::http::router router;
    router.get("/", &list);
    router.get("/hello", &hello);
    router.get("/lambda", []() -> aio::coro<aio::http::response> { co_return aio::http::response(200, "text"); });
    router.use(&timed);
    auto server = co_await aio::http::start_server(std::move(router), "localhost", 0);
    co_await server.drain(1s);
}

aio::coro<> ask() {
    aio::http::session http;
    auto page = co_await http.get("http://localhost/");
    page = co_await http.post("http://localhost/", std::string("text"));
    page = co_await http.post("http://localhost/", aio::http::form("name", "value"));
    aio::http::multipart parts;
    page = co_await http.post("http://localhost/", parts);
    page = co_await http.put("http://localhost/", parts);
    auto text = http.get("http://localhost/" + page.text());
    page = co_await std::move(text);
    page = co_await aio::http::retry({}, [&] { return http.get("http://localhost/"); });
    auto answers = co_await aio::gather(http.get("http://localhost/1"), http.get("http://localhost/2"));
    co_await http.aclose();
}

aio::coro<> store(aio::sql::connection& db, aio::sql::pool& pool) {
    int id = 1;
    auto rows = co_await db.query("SELECT $1", id);
    rows = co_await pool.query("SELECT $1", std::string("text"));
    auto lease = co_await pool.acquire();
    rows = co_await lease->query("SELECT 1");
    co_await aio::with(db.transaction(), [&](auto&) -> aio::coro<> { co_await db.query("SELECT 1"); });
    auto all = db.stream("SELECT 1");
    co_await aio::for_each(std::move(all), [](aio::sql::row) {});
}

aio::coro<> keep(aio::jetstream::queue<std::string>& jobs, aio::jetstream::bucket<int>& numbers) {
    const std::string job = "job";
    co_await jobs.put(job);
    auto entry = co_await numbers.get("a");
    auto revision = co_await numbers.put("a", 1);
    revision = co_await numbers.create("b", 1);
    revision = co_await numbers.update("b", 2, revision);
}
