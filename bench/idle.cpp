// idle CONNECTIONS [CHAIN KEY]: opens so many connections, with TLS if a certificate is given, lets each say one word and
// then be idle, and prints how much memory of this process a connection takes, both ends together. The kernel's memory
// is not in it. ./dev bench --idle runs it for plain and TLS connections, on both backends.

#include <aio/aio.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

aio::coro<> echo(aio::stream client) {
    for (;;) {
        const std::string line = co_await client.read_line();
        if (line.empty()) break;
        co_await client.write(line);
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
        if (co_await s.read_line() != "a word\n") std::abort();
        all.push_back(std::move(s));
    }
}

aio::coro<> measure(std::size_t connections, const char* chain, const char* key) {
    aio::server_options serving = {.backlog = 1000};
    aio::stream_options connecting;
    aio::tls_context client, own;
    if (chain) {
        own = aio::tls_context::server(chain, key);
        client = aio::tls_context::client().verify(false);
        serving.context = &own;
        connecting = {.tls = true, .context = &client};
    }
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, serving);
    std::vector<aio::stream> all;
    all.reserve(connections);
    co_await open_some(v.port(), connecting, connections / 100, all);  // what the first ones cost once is not counted
    ::malloc_trim(0);
    const double before = resident_bytes();
    const std::size_t first = all.size();
    const auto start = std::chrono::steady_clock::now();
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < 20; ++i) tg.create_task(open_some(v.port(), connecting, (connections - first) / 20, all));
        co_return;
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    co_await aio::sleep(3s);  // the loop gives unused blocks back to the system in this time
    ::malloc_trim(0);
    const double grown = resident_bytes() - before;
    const bool ring = aio::get_running_loop().backend() == aio::backend::io_uring;
    std::printf("%s on %s: %zu connections in %.1f s, %.0f bytes each, both ends\n", chain ? "TLS" : "plain",
        ring ? "io_uring" : "epoll", all.size(), time.count(), grown / static_cast<double>(all.size() - first));
    std::fflush(stdout);
    v.abort_clients();
    for (aio::stream& s : all) s.abort();
    v.close();
    co_await v.wait_closed();
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t connections = argc > 1 ? static_cast<std::size_t>(std::atol(argv[1])) : 0;
    if (connections < 1000 || argc == 3) {
        std::fputs("usage: idle CONNECTIONS [CHAIN KEY], at least 1,000 connections\n", stderr);
        return 2;
    }
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    return aio::run_main(measure(connections, argc > 3 ? argv[2] : nullptr, argc > 3 ? argv[3] : nullptr));
}
