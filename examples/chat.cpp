// A chat over TCP: what one client says, all others hear. Try it with `nc 127.0.0.1 7777`, from two terminals.
//
//     chat [PORT]
//
// It needs aio::core. It prints "listening on port N" once it is ready, and ends on Ctrl-C, after everybody has been
// told.

#include <aio/aio.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

using namespace std::chrono_literals;

namespace {

struct saying {
    std::string who, words;
};

class room {
public:
    aio::coro<> welcome(aio::stream client) {
        co_await client.write("your name? ");
        std::string name = trimmed(co_await aio::wait_for(client.read_line(), 60s));  // (1)
        if (name.empty()) co_return;

        auto hears = said_.subscribe();
        say({"*", name + " is here"});
        auto left = aio::finally([&] { say({"*", name + " has left"}); });    // (2)
        co_await aio::race(listen(client, name), tell(client, hears, name));  // (3)
    }
    void say(saying s) {
        std::printf("%s: %s\n", s.who.c_str(), s.words.c_str());
        std::fflush(stdout);
        if (open_) said_.send(std::move(s));
    }
    void close() {
        open_ = false;
        said_.close();
    }

private:
    static std::string trimmed(std::string line) {
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
        return line;
    }
    aio::coro<> listen(aio::stream& client, const std::string& name) {
        for (;;) {
            std::string line = co_await client.read_line();  // (4)
            if (line.empty()) co_return;
            saying s{name, trimmed(std::move(line))};
            say(std::move(s));
            co_await aio::sleep(0s);
        }
    }
    static aio::coro<> tell(aio::stream& client, auto& hears, const std::string& name) {
        while (auto s = co_await hears.next()) {  // (5)
            if (s->who != name) { co_await client.write(s->who + ": " + s->words + "\n"); }
        }
        co_await client.write("*: the room is closed\n");
    }
    aio::broadcast<saying> said_{100};
    bool open_ = true;
};

aio::coro<> async_main(std::uint16_t port) {
    room r;
    auto server =
        co_await aio::start_server([&r](aio::stream s) { return r.welcome(std::move(s)); }, "127.0.0.1", port);
    co_await aio::with(server, [&]() -> aio::coro<> {
        std::printf("listening on port %d\n", server.port());
        std::fflush(stdout);
        std::exception_ptr stopped;
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) { stopped = std::current_exception(); }  // (6)
        r.close();
        co_await server.drain(2s);
        if (stopped) std::rethrow_exception(stopped);
    });
}

}  // namespace

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 7777;
    return aio::run_main(async_main(static_cast<std::uint16_t>(port)));
}

// (1) A client that never says its name is dropped after a minute. The error ends this handler alone: the server tells
// the exception handler. (2) However the handler ends, the others hear of it. (3) One coroutine reads, the other
// writes. When one ends, race() cancels the other and waits for its end. (4) A line that is longer than the stream's
// limit (64 KiB) throws, and so ends this client alone. After each line sleep(0s) lets the others take it, for lines
// that have come already are read without a wait. (5) A client that is too slow to take 100 lines gets
// broadcast_lagged here, and is dropped. Nobody waits for it. (6) Ctrl-C cancels the main task. C++ has no co_await in
// a catch block, so the error is kept and thrown again at the end.
