// An echo server: each client gets its own lines back. Try it with `nc 127.0.0.1 7777`.
//
//     echo [PORT]
//
// It needs aio::core. It prints "listening on port N" once it is ready, and ends on Ctrl-C.

#include <aio/aio.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

aio::coro<> echo(aio::stream client) {  // (1)
    for (;;) {
        std::string line = co_await client.read_line();  // (2)
        if (line.empty()) co_return;                     // (3)
        co_await client.write(line);                     // (4)
    }
}

aio::coro<> async_main(std::uint16_t port) {
    auto server = co_await aio::start_server(echo, "127.0.0.1", port);
    co_await aio::with(server, [&]() -> aio::coro<> {
        std::printf("listening on port %d\n", server.port());
        std::fflush(stdout);
        co_await server.serve_forever();  // (5)
    });
}

}  // namespace

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 7777;
    return aio::run_main(async_main(static_cast<std::uint16_t>(port)));
}

// (1) The server calls this for each connection, in a task of its own. The stream is the handler's, and is closed when
// the handler ends. (2) While this client says nothing, the tasks of other clients run. (3) A line has at least its
// newline; an empty one is the end of the stream. (4) Completes when the kernel has taken the bytes, so a client that
// does not read slows only its own task down. (5) Ctrl-C cancels this wait. When `with` is left, the server is closed,
// and all handlers have been cancelled and have ended.
