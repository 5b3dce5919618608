// soak SECONDS [SEED]: mixed load with random cancels, resets and drops on one loop, for so long; 0 is one short round.
// At the end nothing may be left: descriptors, threads, children, memory, and with a sanitizer coroutine frames, which
// it finds by itself. AIO_BACKEND chooses the backend.
// ./dev soak runs it on both.

#include <aio/aio.hpp>
#ifdef AIO_SOAK_HTTP
#include <aio/http.hpp>
#endif

#include "certificates.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

std::minstd_rand randomness(1);
std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(randomness); }
bool one_in(std::size_t n) { return below(n) == 0; }

[[noreturn]] void fail(const std::string& what) {
    std::fflush(stdout);
    std::fprintf(stderr, "soak: %s\n", what.c_str());
    std::_Exit(1);
}
void require(bool ok, const char* what) {
    if (!ok) fail(std::string("wrong: ") + what);
}

std::string bytes_of(std::size_t size) {
    std::string text(size, '\0');
    unsigned x = static_cast<unsigned>(randomness());
    for (char& c : text) c = static_cast<char>('a' + (x = x * 1103515245 + 12345) / 65536 % 26);
    return text;
}
std::size_t some_size() {
    constexpr std::size_t sizes[] = {1, 40, 200, 1500, 2048, 2049, 4096, 5000, 16'384, 100'000, 700'000};
    return 1 + below(sizes[below(std::size(sizes))]);
}

/// What the world shares.
struct world {
    std::filesystem::path folder;
    std::vector<aio::tls_context> contexts;  // server, client
    int plain = 0, secure = 0, http = 0, datagrams = 0;
    std::string unix_path;
    std::map<std::string, std::size_t> done, given_up;
};

// ---- servers ----

aio::coro<> echo(aio::stream client) {
    std::vector<std::byte> block(1 + below(20'000));
    while (const std::size_t n = co_await client.read_some(block)) {
        co_await client.write(std::span<const std::byte>(block.data(), n));
        if (one_in(3000)) {
            client.abort();
            co_return;
        }
    }
    co_await client.aclose();
}

aio::coro<> answer_datagrams(aio::datagrams& socket) {
    for (;;) {
        const aio::datagram m = co_await socket.receive();
        try {
            co_await socket.send(m.data, m.from);
        } catch (const std::system_error&) {
            // the peer has gone
        }
    }
}

// ---- clients: each does one thing, and may be cancelled at any time ----

/// Talks to an echo until something random ends it.
aio::coro<> talk(aio::stream s) {
    for (std::size_t rounds = 1 + below(20); rounds > 0; --rounds) {
        const std::string sent = bytes_of(some_size());
        std::string got;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(s.write(std::string_view(sent)));
            got = co_await s.read_exactly(sent.size());
        });
        require(got == sent, "an echo");
    }
    switch (below(4)) {
        case 0: s.abort(); break;
        case 1: break;  // dropped
        case 2:
            s.write_eof();
            static_cast<void>(co_await s.read());
            co_await s.aclose();
            break;
        default: co_await s.aclose();
    }
}

aio::coro<> plain_client(world& w) { co_await talk(co_await aio::open_connection("127.0.0.1", w.plain)); }
aio::coro<> unix_client(world& w) { co_await talk(co_await aio::open_unix_connection(w.unix_path)); }
aio::coro<> secure_client(world& w) {
    co_await talk(co_await aio::open_connection(
        "127.0.0.1", w.secure, {.tls = true, .context = &w.contexts[1], .server_name = "localhost"}));
}

aio::coro<> datagram_client(world& w) {
    aio::datagrams d = co_await aio::connect_datagrams("127.0.0.1", w.datagrams);
    for (int i = 0; i < 5; ++i) {
        const std::string sent = bytes_of(1 + below(1400));
        co_await d.send(std::string_view(sent));
        const aio::datagram m = co_await d.receive();
        require(m.data == sent, "a datagram");
    }
    if (one_in(2)) co_await d.aclose();
}

aio::coro<> file_client(world& w) {
    const std::filesystem::path path = w.folder / ("file" + std::to_string(below(20)));
    const std::string text = bytes_of(some_size());
    switch (below(4)) {
        case 0: co_await aio::write_file(path, text, {.atomic = true}); break;
        case 1: {
            co_await aio::write_file(path, text);
            auto lines = aio::read_lines(path);
            for (std::size_t n = 0; n < 3; ++n) {
                auto line = co_await lines.next();
                if (!line) break;
            }
            break;
        }
        case 2: {
            aio::file f = co_await aio::open_file(path, "a+");
            co_await f.write_at(static_cast<std::int64_t>(below(100'000)), std::string_view(text));
            static_cast<void>(co_await f.read_at(0, 1 + below(50'000)));
            if (one_in(2)) co_await f.aclose();
            break;
        }
        default: {
            co_await aio::write_file(path, text);
            aio::file f = co_await aio::open_file(path);
            aio::stream s = co_await aio::open_connection("127.0.0.1", w.plain);
            std::uint64_t sent = 0;
            co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
                tg.create_task([&]() -> aio::coro<> {
                    sent = co_await s.send_file(f);
                    s.write_eof();
                });
                const std::string got = co_await s.read();
                require(got.size() <= 1'000'000, "a file that was sent");
            });
            co_await s.aclose();
            co_await f.aclose();
        }
    }
}

aio::coro<> process_client(world&) {
    switch (below(3)) {
        case 0: {
            aio::subprocess p = co_await aio::create_subprocess_exec(
                aio::argv("cat"), {.in = aio::stdio::pipe, .out = aio::stdio::pipe});
            const std::string sent = bytes_of(some_size());
            const aio::subprocess_output io = co_await p.communicate(sent);
            require(io.out == sent, "what cat gives");
            require(co_await p.wait() == 0, "how cat ends");
            break;
        }
        case 1: {
            aio::subprocess p = co_await aio::create_subprocess_shell(
                "sleep 100 & sleep 100; true", {.out = aio::stdio::null, .new_group = true});
            co_await aio::sleep(1ms);
            p.kill();
            static_cast<void>(co_await p.wait());
            break;
        }
        default: {
            aio::subprocess p = co_await aio::create_subprocess_exec(aio::argv("sleep", "100"), {});
            auto waiting = aio::create_task(p.wait());
            co_await aio::sleep(0s);
            p.terminate();
            static_cast<void>(co_await waiting);
        }
    }
}

aio::coro<> thread_client(world&) {
    const int n = co_await aio::to_thread([] { return 7; });
    require(n == 7, "what a thread gives");
}

#ifdef AIO_SOAK_HTTP
aio::coro<aio::http::response> answer(aio::http::request request) {
    if (one_in(50)) throw std::runtime_error("a handler that fails");
    co_return aio::http::response(200, std::string(request.body()));
}
aio::coro<> http_client(world& w) {
    aio::http::session session;
    const std::string url = "http://127.0.0.1:" + std::to_string(w.http) + "/";
    for (std::size_t i = 1 + below(5); i > 0; --i) {
        const std::string sent = bytes_of(1 + below(20'000));
        const aio::http::response r = co_await session.post(url, sent);
        require(r.status() == 500 || r.text() == sent, "an answer of HTTP");
    }
}
#endif

using client = aio::coro<> (*)(world&);

/// Errors that peers who reset, drop and leave cause; anything else is a fault.
bool is_expected(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const aio::cancelled_error&) { return true; } catch (const aio::timeout_error&) {
        return true;
    } catch (const aio::incomplete_read_error&) { return true; } catch (const std::system_error&) {
        return true;
    } catch (const aio::exception_group& group) {
        for (const std::exception_ptr& e : group.exceptions()) {
            if (!is_expected(e)) return false;
        }
        return true;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "soak: %s\n", e.what());
        return false;
    }
}

/// Does the same thing again and again; every third time something cancels it half-way.
aio::coro<> repeat(world& w, const char* name, client fn, std::function<bool()> go_on) {
    while (go_on()) {
        bool whole = true;
        try {
            if (one_in(3)) {
                co_await aio::wait_for(fn(w), std::chrono::microseconds(below(20'000)));
            } else {
                co_await fn(w);
            }
        } catch (...) {
            if (!is_expected(std::current_exception())) fail(std::string("an error in ") + name);
            whole = false;
        }
        ++(whole ? w.done : w.given_up)[name];
        co_await aio::sleep(0s);
    }
}

aio::coro<> soak(world& w, std::size_t rounds, double seconds) {
    // What handlers throw when their clients leave is expected.
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    struct one {
        const char* name;
        client fn;
        std::size_t tasks;
    };
    const std::vector<one> all = {
        {"TCP", &plain_client, 12},
        {"TLS", &secure_client, 6},
        {"unix sockets", &unix_client, 6},
        {"datagrams", &datagram_client, 4},
        {"files", &file_client, 6},
        {"processes", &process_client, 3},
        {"threads", &thread_client, 3},
#ifdef AIO_SOAK_HTTP
        {"HTTP", &http_client, 4},
#endif
    };
    aio::server plain = co_await aio::start_server(echo, "127.0.0.1", 0);
    aio::server secure = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &w.contexts[0]});
    aio::server by_path = co_await aio::start_unix_server(echo, w.unix_path);
    w.plain = plain.port();
    w.secure = secure.port();
#ifdef AIO_SOAK_HTTP
    auto http = co_await aio::http::start_server(answer, "127.0.0.1", 0);
    w.http = http.port();
#endif
    aio::datagrams socket = co_await aio::bind_datagrams("127.0.0.1", 0);
    w.datagrams = socket.local().port();
    auto answering = aio::create_task(answer_datagrams(socket));

    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (const one& o : all) {
            for (std::size_t i = 0; i < o.tasks; ++i) {
                const auto left = std::make_shared<std::size_t>(rounds);
                std::function<bool()> go_on = [=] {
                    return seconds > 0 ? std::chrono::steady_clock::now() < until : (*left)-- > 0;
                };
                tg.create_task(repeat(w, o.name, o.fn, std::move(go_on)));
            }
        }
        co_return;
    });
    answering.cancel();
    try {
        co_await answering;
    } catch (const aio::cancelled_error&) {
        // as it was told
    }
#ifdef AIO_SOAK_HTTP
    static_cast<void>(co_await http.drain(5s));
#endif
    static_cast<void>(co_await plain.drain(5s));
    static_cast<void>(co_await secure.drain(5s));
    static_cast<void>(co_await by_path.drain(5s));
    co_await socket.aclose();
}

// ---- what is left ----

#ifdef AIO_DETAIL_ASAN
constexpr bool sanitized = true;  // its memory grows by design
#else
constexpr bool sanitized = false;
#endif

std::size_t entries_of(const char* folder) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
    return n;
}
struct holdings {
    std::size_t descriptors = entries_of("/proc/self/fd");
    std::size_t threads = entries_of("/proc/self/task");
};

std::size_t resident_kilobytes() {
    std::size_t pages = 0;
    if (std::FILE* const f = std::fopen("/proc/self/statm", "re")) {
        if (std::fscanf(f, "%*u %zu", &pages) != 1) pages = 0;
        std::fclose(f);
    }
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

/// Pools give back their threads and close files in their own time.
template<class F>
bool comes_true(F condition) {
    for (int looks = 0; looks < 20'000; ++looks) {
        if (condition()) return true;
        ::usleep(1000);
    }
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 0;
    const unsigned seed = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1;
    randomness.seed(seed);
    std::string pattern = (std::filesystem::temp_directory_path() / "aiocxx-soak-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) fail("mkdtemp");
    world w;
    w.folder = pattern;
    w.unix_path = w.folder / "socket";

    aio_test::authority ca("soak");
    const aio_test::identity own = ca.issue({.name = "localhost"});
    w.contexts.push_back(aio::tls_context::server(own.chain, own.key));
    w.contexts.push_back(aio::tls_context::client());
    w.contexts[1].trust_file(ca.pem());

    const char* const backend = std::getenv("AIO_BACKEND");
    std::printf("soak on %s, seed %u\n", backend ? backend : "the default backend", seed);
    aio::run(soak(w, 2, 0));  // pools and caches come into being here
    const holdings before;
    const std::size_t memory = resident_kilobytes();
    w.done.clear();
    w.given_up.clear();
    aio::run(soak(w, 10, seconds));
    for (const auto& [name, n] : w.done)
        std::printf("  %-14s %8zu whole, %8zu cut short\n", name.c_str(), n, w.given_up[name]);
    const holdings after;
    std::printf("  memory %zu KB, then %zu; descriptors %zu, %zu; threads %zu, %zu\n", memory, resident_kilobytes(),
        before.descriptors, after.descriptors, before.threads, after.threads);
    if (!comes_true([&] { return holdings().descriptors <= before.descriptors; })) {
        fail("descriptors are left: " + std::to_string(before.descriptors) + ", then " +
            std::to_string(holdings().descriptors));
    }
    constexpr std::size_t threads_of_pools = 16;
    if (!comes_true([&] { return holdings().threads <= std::max(before.threads, threads_of_pools); })) {
        fail("threads are left: " + std::to_string(before.threads) + ", then " + std::to_string(holdings().threads));
    }
    constexpr std::size_t growth = 64 * 1024;  // kilobytes of caches, of malloc and of OpenSSL
    if (!sanitized && resident_kilobytes() > memory + growth) fail("memory has grown");
    if (!comes_true([] { return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; })) fail("children are left");
    std::filesystem::remove_all(w.folder);
    std::puts("nothing is left");
    return 0;
}
