// idle CONNECTIONS [CHAIN KEY]: a server and a client process with so many connections, with TLS if a certificate is
// given. Each says one word and is idle then. Prints how much memory of the server, and of the client, a connection
// takes; the kernel's is not in it. ./dev bench --idle runs it for plain and TLS connections, on both backends.

#include <aio/aio.hpp>

#include <chrono>
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

aio::coro<> echo(aio::stream client, counter& words) {
    for (;;) {
        const std::string line = co_await client.read_line();
        if (line.empty()) break;
        co_await client.write(line);
        words.count();
    }
}

double resident_bytes() {
    std::size_t pages = 0;
    if (std::FILE* const f = std::fopen("/proc/self/statm", "re")) {
        if (std::fscanf(f, "%*u %zu", &pages) != 1) pages = 0;
        std::fclose(f);
    }
    return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

aio::coro<> open_some(int port, aio::stream_options how, std::size_t count, std::vector<aio::stream>& all) {
    for (std::size_t i = 0; i < count; ++i) {
        aio::stream s = co_await aio::open_connection("127.0.0.1", port, how);
        co_await s.write("a word\n");
        const std::string back = co_await s.read_line();
        if (back != "a word\n") std::abort();
        all.push_back(std::move(s));
    }
}

/// What each connection takes between the first hundredth of them, which also pay what comes once, and all.
class meter {
public:
    meter() {
        ::malloc_trim(0);
        before_ = resident_bytes();
    }
    aio::coro<double> growth(std::size_t connections) const {
        co_await aio::sleep(3s);  // the loop gives unused blocks back to the system in this time
        ::malloc_trim(0);
        co_return (resident_bytes() - before_) / static_cast<double>(connections);
    }

private:
    double before_;
};

struct settings {
    std::size_t connections = 0;
    const char* chain = nullptr;
    const char* key = nullptr;
    std::size_t first() const { return connections / 100; }
};

aio::coro<> serve(settings how, int port_to) {
    aio::server_options options = {.backlog = 1000};
    aio::tls_context own;
    if (how.chain) {
        own = aio::tls_context::server(how.chain, how.key);
        options.context = &own;
    }
    counter words;
    aio::server v = co_await aio::start_server(
        [&words](aio::stream client) { return echo(std::move(client), words); }, "127.0.0.1", 0, options);
    const int port = v.port();
    if (::write(port_to, &port, sizeof port) != sizeof port) std::abort();
    co_await words.wait_for(how.first());
    const meter m;
    co_await words.wait_for(how.connections);
    const double each = co_await m.growth(how.connections - how.first());
    const bool ring = aio::get_running_loop().backend() == aio::backend::io_uring;
    std::printf("%s on %s, %zu connections: server %.0f bytes each", how.chain ? "TLS" : "plain",
        ring ? "io_uring" : "epoll", how.connections, each);
    std::fflush(stdout);
    co_await v.wait_closed();
}

aio::coro<> connect(settings how, int port_from) {
    int port = 0;
    if (::read(port_from, &port, sizeof port) != sizeof port) std::abort();
    aio::stream_options options;
    aio::tls_context client;
    if (how.chain) {
        client = aio::tls_context::client().verify(false);
        options = {.tls = true, .context = &client};
    }
    std::vector<aio::stream> all;
    all.reserve(how.connections);
    co_await open_some(port, options, how.first(), all);
    const meter m;
    const auto start = std::chrono::steady_clock::now();
    const std::size_t rest = how.connections - how.first();
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (std::size_t i = 0; i < 20; ++i) {
            tg.create_task(open_some(port, options, rest / 20 + (i < rest % 20 ? 1 : 0), all));
        }
        co_return;
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    const double each = co_await m.growth(rest);
    co_await aio::sleep(1s);  // the server is about to print
    std::printf(", client %.0f; made in %.1f s\n", each, time.count());
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    settings how;
    if (argc > 1) how.connections = static_cast<std::size_t>(std::atol(argv[1]));
    if (how.connections < 1000 || argc == 3) {
        std::fputs("usage: idle CONNECTIONS [CHAIN KEY], at least 1,000 connections\n", stderr);
        return 2;
    }
    if (argc > 3) {
        how.chain = argv[2];
        how.key = argv[3];
    }
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < how.connections + 100) {
        std::fprintf(
            stderr, "idle: %zu connections need more descriptors than there may be: ulimit -n\n", how.connections);
        return 1;
    }
    int port[2];
    if (::pipe(port) != 0) return 1;
    const pid_t server = ::fork();
    if (server == 0) {
        aio::run(serve(how, port[1]));
        std::_Exit(0);
    }
    const int status = aio::run_main(connect(how, port[0]));
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    return status;
}
