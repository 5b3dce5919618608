// io_workload NAME OPERATIONS ADDRESS: runs a workload of a client once, W13 against an HTTP server or W14 against
// PostgreSQL, and prints its wall and processor time as JSON, once its connections are there. The comparison with other
// clients (peers/compare.py) uses it.

#include <aio/aio.hpp>
#include <aio/http.hpp>
#include <aio/sql.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

void require(bool done) {
    if (!done) {
        std::fputs("the workload has not done its work\n", stderr);
        std::abort();
    }
}

/// The processor time of all threads of this process.
double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct times {
    double wall = 0, cpu = 0;
};
class stopwatch {
public:
    times elapsed() const {
        const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start_;
        return {wall.count(), cpu_seconds() - cpu_start_};
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    double cpu_start_ = cpu_seconds();
};

// ---- W13 HTTP GETs of 1,024 bytes, 100 at once, on a connection each ----

aio::coro<> get_often(aio::http::session& session, const std::string& url, std::size_t times, std::size_t& bytes) {
    for (std::size_t i = 0; i < times; ++i) {
        const aio::http::response response = co_await session.get(url);
        require(response.status() == 200);
        bytes += response.text().size();
    }
}
aio::coro<> get_all(aio::http::session& session, const std::string& url, std::size_t operations) {
    std::size_t bytes = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(get_often(session, url, operations / 100, bytes)));
    for (auto& task : tasks) co_await task;
    require(bytes == operations * 1024);
}
aio::coro<times> gets(std::string url, std::size_t operations) {
    aio::http::session session({.max_connections = 100});
    co_await get_all(session, url, 100);  // makes the connections
    const stopwatch watch;
    co_await get_all(session, url, operations);
    const times taken = watch.elapsed();
    co_await session.aclose();
    co_return taken;
}

// ---- W14 queries with a parameter, on 10 connections ----

aio::coro<> query_often(aio::sql::pool::lease db, std::size_t times, std::uint64_t& sum) {
    for (std::size_t i = 0; i < times; ++i) {
        const aio::sql::rows rows = co_await db->query("SELECT $1::int", i);
        sum += rows[0][0].as<std::uint32_t>();
    }
}
aio::coro<times> queries(std::string url, std::size_t operations) {
    aio::sql::pool pool(url, {.max_size = 10});
    std::vector<aio::sql::pool::lease> connections;
    for (int i = 0; i < 10; ++i) connections.push_back(co_await pool.acquire());
    const std::size_t each = operations / 10;
    std::uint64_t sum = 0;
    std::vector<aio::task<>> tasks;
    const stopwatch watch;
    for (auto& connection : connections)
        tasks.push_back(aio::create_task(query_often(std::move(connection), each, sum)));
    for (auto& task : tasks) co_await task;
    const times taken = watch.elapsed();
    require(sum == 10 * (each * (each - 1) / 2));
    co_await pool.aclose();
    co_return taken;
}

// ---- W14p the same on one connection, by 1,000 tasks at once ----

aio::coro<> query_pipelined(aio::sql::connection& db, std::size_t times, std::uint64_t& sum) {
    for (std::size_t i = 0; i < times; ++i) {
        const aio::sql::rows rows = co_await db.query("SELECT $1::int", i);
        sum += rows[0][0].as<std::uint32_t>();
    }
}
aio::coro<times> pipelined(std::string url, std::size_t operations) {
    auto& db = co_await aio::enter(aio::sql::connect(url));
    std::uint64_t sum = 0;
    co_await query_pipelined(db, 3, sum);  // prepares it
    constexpr std::size_t together = 1000;
    const std::size_t each = (operations + together - 1) / together;
    std::vector<aio::task<>> tasks;
    sum = 0;
    const stopwatch watch;
    for (std::size_t i = 0; i < together; ++i) tasks.push_back(aio::create_task(query_pipelined(db, each, sum)));
    for (auto& task : tasks) co_await task;
    times taken = watch.elapsed();
    require(sum == together * (each * (each - 1) / 2));
    const double share = static_cast<double>(operations) / static_cast<double>(each * together);
    taken.wall *= share;
    taken.cpu *= share;
    co_return taken;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view name = argc == 4 ? argv[1] : "";
    std::size_t operations = argc == 4 ? std::strtoull(argv[2], nullptr, 10) : 0;
    operations = operations / 100 * 100;
    if (operations == 0 || (name != "W13" && name != "W14" && name != "W14p")) {
        std::fputs(
            "usage: io_workload NAME OPERATIONS ADDRESS\n  NAME: W13 (HTTP), W14, W14p (PostgreSQL); OPERATIONS are "
            "rounded "
            "down to a multiple of 100\n",
            stderr);
        return 2;
    }
    const auto workload = name == "W13" ? gets : name == "W14" ? queries : pipelined;
    const times taken = aio::run(workload(argv[3], operations));
    std::printf("{\"workload\": \"%s\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.9f}\n", argv[1],
        operations, taken.wall, taken.cpu);
}
