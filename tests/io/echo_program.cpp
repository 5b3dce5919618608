// An echo server and its client, whose system calls echo_calls.sh counts.

#include <aio/aio.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

aio::coro<> echo(aio::stream client, aio::event& left) {
    std::array<std::byte, 4096> block;
    while (const std::size_t n = co_await client.read_some(block)) {
        co_await client.write(std::span<const std::byte>(block.data(), n));
    }
    left.set();
}

aio::coro<> serve() {
    aio::event left;
    aio::server v = co_await aio::start_server([&](aio::stream s) { return echo(std::move(s), left); }, "127.0.0.1", 0);
    std::printf("%d\n", v.port());
    std::fflush(stdout);
    co_await aio::with(v, [&]() -> aio::coro<> { co_await left.wait(); });
}

aio::coro<> ask(int port, int times) {
    aio::stream s = co_await aio::open_connection("127.0.0.1", port);
    const std::string question(63, 'x');
    for (int i = 0; i < times; ++i) {
        co_await s.write(question + '\n');
        const std::string answer = co_await s.read_line();
        if (answer.size() != 64) throw std::runtime_error("the answer is not what was asked");
    }
    co_await s.aclose();
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 1) return aio::run_main(serve());
    if (count == 3) return aio::run_main(ask(std::atoi(arguments[1]), std::atoi(arguments[2])));
    std::fputs("usage: echo_program [PORT TIMES]\n  without arguments: the server, which prints its port\n", stderr);
    return 2;
}
