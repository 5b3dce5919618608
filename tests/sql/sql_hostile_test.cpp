// A PostgreSQL server that sends what no server should: every operation ends, with a result or an error.
#include "out_of_memory.hpp"
#include "sql_test.hpp"

#include <cstdlib>
#include <random>

namespace {

namespace sql = aio::sql;

std::string number(std::uint32_t v, int bytes = 4) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(v >> (8 * i));
    return text;
}
std::string message(char type, const std::string& body) {
    return type + number(static_cast<std::uint32_t>(body.size() + 4)) + body;
}
const std::string nul(1, '\0');
const std::string ready = message('Z', "I");
const std::string columns = message(
    'T', number(1, 2) + "x" + nul + number(0) + number(0, 2) + number(23) + number(4, 2) + number(0) + number(0, 2));
const std::string a_row = message('D', number(1, 2) + number(1) + "7");
const std::string done = message('C', "SELECT 1" + nul);
const std::string good = message('1', "") + message('2', "") + columns + a_row + done + ready;

/// Lets everybody in, and answers whatever it is asked with the same bytes.
class hostile_server {
public:
    explicit hostile_server(std::string answer) : answer_(std::move(answer)) {}
    hostile_server(const hostile_server&) = delete;
    hostile_server& operator=(const hostile_server&) = delete;
    aio::coro<hostile_server&> enter() {
        auto handler = [this](aio::stream client) { return serve(std::move(client)); };
        server_ = co_await aio::start_server(std::move(handler), "127.0.0.1", 0);
        co_return *this;
    }
    aio::coro<> exit(std::exception_ptr) {
        server_.abort_clients();
        static_cast<void>(co_await server_.drain(std::chrono::seconds(0)));
    }
    std::string url() const {
        return "postgresql://aio@127.0.0.1:" + std::to_string(server_.port()) + "/aio?sslmode=disable";
    }

private:
    aio::coro<> serve(aio::stream client) {
        try {
            const std::string size = co_await client.read_exactly(4);
            const std::size_t rest =
                static_cast<unsigned char>(size[3]) + 256u * static_cast<unsigned char>(size[2]) - 4;
            const std::string start = co_await client.read_exactly(rest);
            if (start.size() == 12) co_return;  // a request to cancel
            co_await client.write(message('R', number(0)) + message('K', number(1) + number(2)) + ready);
            static_cast<void>(co_await client.read_exactly(5));
            co_await client.write(answer_);
            co_await client.aclose();
        } catch (const std::exception&) {}
    }
    std::string answer_;
    aio::server server_;
};

/// What comes of a few operations with such a server: the rows of the first, or the code of its error.
aio::coro<std::string> outcome(std::string answer) {
    auto& server = co_await aio::enter<hostile_server>(std::move(answer));
    auto connecting = sql::connect(server.url());
    sql::connection& db = co_await connecting.enter();
    auto neighbour = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await db.query("SELECT $1::int", 8);
        } catch (const sql::error&) {}
    });
    std::string first;
    try {
        const sql::rows rows = co_await db.query("SELECT $1::int", 7);
        first = std::to_string(rows.size());
    } catch (const sql::error& e) { first = e.code(); }
    co_await neighbour;
    try {
        auto rows = db.stream("SELECT 1");
        while (co_await rows.next()) {}
    } catch (const sql::error&) {}
    co_await connecting.exit(nullptr);
    co_return first;
}

}  // namespace

AIO_REAL_TEST("a server that breaks the protocol loses its connection, and everything ends") {
    EXPECT_EQ(co_await outcome(good), "1");
    const std::string start = message('1', "") + message('2', "");
    const struct {
        const char* what;
        std::string answer;
    } cases[] = {
        {"nothing", ""},
        {"an end without a beginning", ready + ready + ready},
        {"a length below 4", std::string("1") + number(3)},
        {"a length of 2 GB", "D" + number(0x7fffffff) + "x"},
        {"a length of 4 GB", "D" + number(0xffffffff)},
        {"a long message of a short type", "1" + number(40'000)},
        {"an unknown message", start + message('?', "") + ready},
        {"a row without columns", start + a_row + done + ready},
        {"a row of another width", start + columns + message('D', number(2, 2) + number(1) + "7" + number(1) + "8")},
        {"a value longer than its message", start + columns + message('D', number(1, 2) + number(1000) + "7")},
        {"a negative length of a value", start + columns + message('D', number(1, 2) + number(0xfffffffe))},
        {"columns that are not there", start + message('T', number(65535, 2))},
        {"a name without an end", start + message('T', number(1, 2) + "name")},
        {"a tag without an end", start + columns + message('C', "SELECT")},
        {"an error without fields", message('E', "") + ready},
        {"an error without an end", message('E', "SERROR" + nul + "C") + ready},
        {"an error and then rows", message('E', "SERROR" + nul + "C22012" + nul + nul) + columns + a_row + ready},
        {"data of a COPY", start + message('d', "abc") + ready},
        {"a COPY in both directions", start + message('W', nul + number(0, 2)) + ready},
        {"an authentication", message('R', number(3))},
        {"more than was asked for", good + good + good + good},
        {"a ReadyForQuery that is empty", start + message('Z', "")},
        {"a notification that is cut short", message('A', "ab") + good},
        {"a notice that is cut short", message('N', "S") + good},
    };
    for (const auto& c : cases) {
        SCOPED_TRACE(c.what);
        static_cast<void>(co_await aio::wait_for(outcome(c.answer), 30s));
    }
}

AIO_REAL_TEST("a server that breaks the protocol at random does no harm") {
    std::mt19937 random(3);
    const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    const char* more = std::getenv("AIO_SQL_ROUNDS");
    const int rounds = more ? std::atoi(more) : 300;
    for (int i = 0; i < rounds; ++i) {
        std::string answer = good + good;
        for (std::size_t n = below(4) + 1; n > 0; --n) {
            const std::size_t at = below(answer.size());
            if (i % 3 == 0) answer[at] = static_cast<char>(below(256));
            if (i % 3 == 1) answer.erase(at, below(8));
            if (i % 3 == 2) answer.insert(at, answer.substr(below(answer.size()), below(12)));
        }
        SCOPED_TRACE(i);
        static_cast<void>(co_await aio::wait_for(outcome(answer), 30s));
    }
}

PLAIN_TEST("whatever allocation fails, a pipeline of PostgreSQL ends and the connection is good or lost") {
    const char* url = std::getenv("AIO_TEST_POSTGRES");
    AIO_REQUIRE(url != nullptr);
    aio_test::survives_without_memory(
        [url]() -> aio::coro<> {
            bool no_memory = false;
            try {
                auto connecting = sql::connect(url);
                sql::connection& db = co_await connecting.enter();
                std::exception_ptr failed;
                try {
                    const auto all = co_await aio::gather(db.query("SELECT $1::int, repeat('x', 100)", 1),
                        db.query("SELECT $1::int, repeat('x', 100)", 2),
                        db.query("SELECT $1::int, repeat('x', 100)", 3),
                        db.query("SELECT $1::int, repeat('x', 100)", 4));
                    if (std::get<3>(all).size() != 1) throw std::logic_error("rows are lost");
                } catch (...) { failed = std::current_exception(); }
                co_await connecting.exit(nullptr);
                if (failed) std::rethrow_exception(failed);
            } catch (const sql::error& e) {  // the connection was given up
                no_memory = aio_test::contains(e.what(), "memory");
                if (!no_memory) throw;
            }
            if (no_memory) throw std::bad_alloc();
        },
        {.real_time = true, .threads = true, .at_least = 10});
}
