// The programs of examples/, as a user starts them: with real input, over real sockets and databases.

#include "aio_test.hpp"

#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

namespace http = aio::http;

/// What a program has printed, and its exit status.
struct outcome {
    std::string out, err;
    int status = 0;
};

std::vector<std::string> command(const std::string& name, std::vector<std::string> words) {
    words.insert(words.begin(), std::string(AIO_TEST_EXAMPLES "/") + name);
    return words;
}

aio::coro<outcome> example(std::string name, std::vector<std::string> words) {
    const aio::argv argv(command(name, std::move(words)));
    auto p = co_await aio::create_subprocess_exec(argv, {.out = aio::stdio::pipe, .err = aio::stdio::pipe});
    auto io = co_await aio::wait_for(p.communicate(), 60s);
    outcome o;
    o.out = io.out, o.err = io.err, o.status = co_await p.wait();
    co_return o;
}

/// A program that says on which port it listens, or goes on until it is stopped.
aio::coro<aio::subprocess> started(std::string name, std::vector<std::string> words) {
    const aio::argv argv(command(name, std::move(words)));
    co_return co_await aio::create_subprocess_exec(argv, {.out = aio::stdio::pipe});
}

aio::coro<std::string> port_of(aio::subprocess& p) {
    const std::string line = co_await aio::wait_for(p.out().read_line(), 60s);
    constexpr std::string_view words = "listening on port ";
    AIO_REQUIRE(line.starts_with(words));
    co_return line.substr(words.size(), line.size() - words.size() - 1);
}

aio::coro<int> stopped(aio::subprocess& p, int signal) {
    p.send_signal(signal);
    co_return co_await aio::wait_for(p.wait(), 60s);
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

AIO_REAL_TEST("hello greets at the same time") {
    const std::vector<std::string> names{"Ann", "Bob"};
    const outcome o = co_await example("hello", names);
    EXPECT_EQ(o.status, 0);
    EXPECT_EQ(o.out, "hello ...\nhello ...\n... Ann\n... Bob\n");
}

AIO_REAL_TEST("job_queue does all jobs") {
    const std::vector<std::string> words{"50", "4"};
    const outcome o = co_await example("job_queue", words);
    EXPECT_EQ(o.status, 0);
    EXPECT_TRUE(o.out.ends_with("\n50 jobs done, 0 given up\n")) << o.out;
}

AIO_REAL_TEST("echo gives each client its own lines") {
    const std::vector<std::string> words{"0"};
    aio::subprocess p = co_await started("echo", words);
    const auto port = static_cast<std::uint16_t>(std::stoi(co_await port_of(p)));
    aio::stream ann = co_await aio::open_connection("127.0.0.1", port);
    aio::stream bob = co_await aio::open_connection("127.0.0.1", port);
    co_await ann.write("one\ntwo\n");
    co_await bob.write("three\n");
    EXPECT_EQ(co_await bob.read_line(), "three\n");
    EXPECT_EQ(co_await ann.read_line(), "one\n");
    EXPECT_EQ(co_await ann.read_line(), "two\n");
    EXPECT_EQ(co_await stopped(p, SIGINT), -SIGINT);
    EXPECT_EQ(co_await ann.read(), "");
}

AIO_REAL_TEST("chat passes on what is said, and tells everybody when it closes") {
    const std::vector<std::string> words{"0"};
    aio::subprocess p = co_await started("chat", words);
    const auto port = static_cast<std::uint16_t>(std::stoi(co_await port_of(p)));
    aio::stream ann = co_await aio::open_connection("127.0.0.1", port);
    co_await ann.write("Ann\n");
    EXPECT_EQ(co_await ann.read_line(), "your name? *: Ann is here\n");
    aio::stream bob = co_await aio::open_connection("127.0.0.1", port);
    co_await bob.write("Bob\r\n");
    EXPECT_EQ(co_await ann.read_line(), "*: Bob is here\n");
    EXPECT_EQ(co_await bob.read_line(), "your name? *: Bob is here\n");
    co_await bob.write("good morning\n");
    EXPECT_EQ(co_await ann.read_line(), "Bob: good morning\n");
    co_await bob.aclose();
    EXPECT_EQ(co_await ann.read_line(), "*: Bob has left\n");
    p.send_signal(SIGTERM);
    EXPECT_EQ(co_await ann.read_line(), "*: the room is closed\n");
    EXPECT_EQ(co_await aio::wait_for(p.wait(), 60s), -SIGTERM);
}

AIO_REAL_TEST("follow_log counts what is there, what comes, and what comes after a rotation") {
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    const std::string log = (folder / "log").string();
    co_await aio::write_file(log, "INFO a\nERROR b\n");
    const std::vector<std::string> words{log, "0.01"};
    aio::subprocess p = co_await started("follow_log", words);
    const auto until = [&](std::string wanted) -> aio::coro<> {
        for (;;) {
            const std::string line = co_await aio::wait_for(p.out().read_line(), 60s);
            AIO_REQUIRE(!line.empty());
            if (line == wanted) co_return;
        }
    };
    co_await until("ERROR 1  INFO 1  \n");
    std::filesystem::rename(log, log + ".1");
    co_await aio::write_file(log, "WARN c\n");
    co_await until("ERROR 1  INFO 1  WARN 1  \n");
    EXPECT_EQ(co_await stopped(p, SIGINT), -SIGINT);
}

AIO_REAL_TEST("notes_service keeps notes in its file") {
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    const std::vector<std::string> words{"0", (folder / "notes.db").string()};
    http::session s;
    auto type = http::headers("Content-Type", "application/json");
    for (int round = 1; round <= 2; ++round) {  // the second finds the note of the first
        aio::subprocess p = co_await started("notes_service", words);
        const std::string base = "http://127.0.0.1:" + co_await port_of(p);
        auto made = co_await s.post(base + "/notes", R"({"title": "milk", "text": "'); DROP"})", {.headers = type});
        EXPECT_EQ(made.status(), 201);
        auto found = co_await s.get(base + made.headers()["Location"]);
        EXPECT_EQ(found.json().at("text"), "'); DROP");
        EXPECT_EQ((co_await s.get(base + "/notes")).json().size(), static_cast<std::size_t>(round));
        EXPECT_EQ((co_await s.get(base + "/notes/77")).status(), 404);
        EXPECT_EQ((co_await s.get(base + "/notes/x")).status(), 404);
        EXPECT_EQ((co_await s.post(base + "/notes", "{}")).status(), 400);
        EXPECT_EQ((co_await s.del(base + "/notes/99")).status(), 404);
        EXPECT_EQ(co_await stopped(p, SIGTERM), -SIGTERM);
    }
}

AIO_REAL_TEST("link_checker finds the link that leads nowhere, and crawler all pages") {
    http::router app;
    const auto page = [](std::string text) {
        return [text] { return http::response(200, text, http::headers("Content-Type", "text/html")); };
    };
    app.get("/", page(R"(<a href="/a">a</a> <a href="/b#x">b</a>)"));
    app.get("/a", page(R"(<a href="/">home</a> <a href="/gone">gone</a>)"));
    app.get("/b", page("nothing"));
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    const std::string base = "http://127.0.0.1:" + std::to_string(server.port());

    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    const std::string file = (folder / "page.html").string();
    co_await aio::write_file(file, "<a href=\"" + base + "/a\">a</a> <a href=\"" + base + "/nowhere\">n</a>");
    const std::vector<std::string> files{file};
    const outcome checked = co_await example("link_checker", files);
    EXPECT_EQ(checked.status, 1);
    EXPECT_EQ(checked.out, base + "/nowhere: 404 Not Found\n2 links, 1 broken\n");

    const std::vector<std::string> start{base};
    const outcome crawled = co_await example("crawler", start);
    EXPECT_EQ(crawled.status, 0);
    EXPECT_TRUE(crawled.out.ends_with("4 pages, 91 bytes, 1 failed\n")) << crawled.out;
}

AIO_REAL_TEST("etl loads all rows or none") {
    const char* server = std::getenv("AIO_TEST_POSTGRES");
    if (!server) throw std::runtime_error("AIO_TEST_POSTGRES is not set: run this with tests/with_postgres COMMAND");
    auto& db = co_await aio::enter(aio::sql::connect(server));
    const std::string table = "etl_people_" + std::to_string(::getpid());  // this test may run twice at the same time
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    const std::string good = (folder / "good.csv").string(), bad = (folder / "bad.csv").string();
    std::string text = "id,full name\n0,\"Ann \"\"A\"\", the first\"\n";
    for (int id = 1; id < 2500; ++id) text += std::to_string(id) + ",back\\slash\n";
    co_await aio::write_file(good, text);
    co_await aio::write_file(bad, "id,full name\n1,Bob\n2\n");

    const std::vector<std::string> both{server, table, good, bad};
    const outcome refused = co_await example("etl", both);
    EXPECT_EQ(refused.status, 1);
    EXPECT_EQ(refused.err, "nothing was loaded: " + bad + ":3: 1 fields, not 2\n");
    EXPECT_TRUE((co_await db.query("SELECT to_regclass($1)", table))[0][0].is_null());

    const std::vector<std::string> one{server, table, "--rate", "1000000", good};
    const outcome loaded = co_await example("etl", one);
    EXPECT_EQ(loaded.err, "");
    EXPECT_EQ(loaded.out, "2500 rows\n");
    auto first = co_await db.query("SELECT \"full name\" FROM " + table + " WHERE id IN ('0', '7') ORDER BY id");
    EXPECT_EQ(first[0][0].as<std::string>(), "Ann \"A\", the first");
    EXPECT_EQ(first[1][0].as<std::string>(), "back\\slash");
    co_await db.query("DROP TABLE " + table);
}

AIO_REAL_TEST("a program that is started wrongly says how it is used") {
    const std::vector<std::string> none;
    for (const char* name : {"link_checker", "crawler", "etl", "follow_log"}) {
        const outcome o = co_await example(name, none);
        EXPECT_EQ(o.status, 2);
        EXPECT_TRUE(has(o.err, std::string("usage: ") + name)) << o.err;
    }
}
