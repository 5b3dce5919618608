// websocket_idle CONNECTIONS: a server and a client process with so many WebSockets, each of which has said one word
// and is idle then. Prints how much memory of the server, and of the client, one takes; the kernel's is not in it.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

double resident_bytes() {
    std::size_t pages = 0;
    if (std::FILE* const f = std::fopen("/proc/self/statm", "re")) {
        if (std::fscanf(f, "%*u %zu", &pages) != 1) pages = 0;
        std::fclose(f);
    }
    return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

aio::coro<double> settled() {
    co_await aio::sleep(3s);  // the loop gives unused blocks back to the system in this time
    ::malloc_trim(0);
    co_return resident_bytes();
}

struct counter {
    std::size_t said = 0, wanted = 0;
    aio::event reached;
    aio::coro<> wait_for(std::size_t n) {
        wanted = n;
        reached.clear();
        if (said < n) co_await reached.wait();
    }
    void count() {
        if (++said == wanted) reached.set();
    }
};

aio::coro<> serve(std::size_t connections, int port_to) {
    counter words;
    auto echo = [&words](aio::http::websocket ws) -> aio::coro<> {
        while (auto m = co_await ws.receive()) {
            co_await ws.send(*m);
            words.count();
        }
    };
    auto handler = [&](aio::http::request r) { return aio::http::upgrade_websocket(r, echo); };
    aio::http::server v = co_await aio::http::start_server(handler, "127.0.0.1", 0, {.backlog = 1000});
    const int port = v.port();
    if (::write(port_to, &port, sizeof port) != sizeof port) std::abort();
    const std::size_t first = connections / 100;
    co_await words.wait_for(first);
    ::malloc_trim(0);
    const double before = resident_bytes();
    co_await words.wait_for(connections);
    const double after = co_await settled();
    std::printf("%zu idle WebSockets: server %.0f bytes each", connections,
        (after - before) / static_cast<double>(connections - first));
    std::fflush(stdout);
    co_await v.wait_closed();
}

aio::coro<> open_some(std::string url, std::size_t count, std::vector<aio::http::websocket>& all) {
    aio::http::session s;
    for (std::size_t i = 0; i < count; ++i) {
        aio::http::websocket ws = co_await s.websocket(url);
        co_await ws.send("a word");
        auto back = co_await ws.receive();
        if (!back || back->text() != "a word") std::abort();
        all.push_back(std::move(ws));
    }
}

aio::coro<> connect(std::size_t connections, int port_from) {
    int port = 0;
    if (::read(port_from, &port, sizeof port) != sizeof port) std::abort();
    const std::string url = "ws://127.0.0.1:" + std::to_string(port) + "/";
    std::vector<aio::http::websocket> all;
    all.reserve(connections);
    const std::size_t first = connections / 100;
    co_await open_some(url, first, all);
    ::malloc_trim(0);
    const double before = resident_bytes();
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        const std::size_t rest = connections - first;
        for (std::size_t i = 0; i < 20; ++i) {
            tg.create_task(open_some(url, rest / 20 + (i < rest % 20 ? 1 : 0), all));
        }
        co_return;
    });
    const double after = co_await settled();
    co_await aio::sleep(1s);  // the server is about to print
    std::printf(", client %.0f\n", (after - before) / static_cast<double>(connections - first));
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t connections = argc > 1 ? static_cast<std::size_t>(std::atol(argv[1])) : 0;
    if (connections < 1000) {
        std::fputs("usage: websocket_idle CONNECTIONS, at least 1,000\n", stderr);
        return 2;
    }
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    int port[2];
    if (::pipe(port) != 0) return 1;
    const pid_t server = ::fork();
    if (server == 0) {
        aio::run(serve(connections, port[1]));
        std::_Exit(0);
    }
    const int status = aio::run_main(connect(connections, port[0]));
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    return status;
}
