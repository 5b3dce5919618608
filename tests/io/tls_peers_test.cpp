// TLS with strangers: OpenSSL's s_client and s_server, curl, and Python's ssl under asyncio, each started here, on
// loopback, and bounded in time. What is not installed is skipped.

#include <aio/tls.hpp>

#include "aio_test.hpp"
#include "io/transport.hpp"
#include "other_program.hpp"
#include "tls_ends.hpp"

#include <aio/detail/io/stream_state.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace aio_test;

/// A program whose input and output (with its errors) are a stream. It is killed after 40 s, and by the destructor.
class program {
public:
    explicit program(std::vector<std::string> words) : pid_(-1) {
        words.insert(words.begin(), {"timeout", "-s", "KILL", "40"});
        int in[2], out[2];
        require(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0, "pipes");
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        ::posix_spawn_file_actions_adddup2(&actions, out[1], 2);
        std::vector<char*> argv;
        for (std::string& w : words) argv.push_back(w.data());
        argv.push_back(nullptr);
        posix_spawnattr_t attributes;
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // so that both are killed
        const int error = ::posix_spawnp(&pid_, "timeout", &actions, &attributes, argv.data(), environ);
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(in[0]);
        ::close(out[1]);
        for (const int fd : {in[1], out[0]}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
        io = aio::stream(aio::detail::stream_ptr(new aio::detail::stream_state(
            aio::detail::make_pipe_transport(out[0], in[1]), words[4], std::size_t(1) << 20)));
        require(error == 0, "the program starts");
    }
    ~program() { stop(); }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    void stop() {
        if (pid_ <= 0) return;
        ::kill(-pid_, SIGKILL);
        ::waitpid(std::exchange(pid_, -1), nullptr, 0);
    }
    /// Gives the exit status, and what is left of the output in rest.
    aio::coro<int> ended(std::string& rest) {
        rest += co_await io.read();
        int status = 0;
        co_await aio::to_thread([&] { ::waitpid(pid_, &status, 0); });
        pid_ = -1;
        co_return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    /// Gives the output up to and with a text.
    aio::coro<std::string> until(std::string text) {
        std::string all;
        while (all.find(text) == std::string::npos) {
            const std::string more = co_await io.read(4096);
            require(!more.empty(), ("\"" + text + "\" in: " + all).c_str());
            all += more;
        }
        co_return all;
    }
    /// Gives the port on which openssl s_server says that it listens.
    aio::coro<int> port() {
        std::string line = "\n";
        while (!line.empty() && line.find("ACCEPT 127.0.0.1:") == std::string::npos) line = co_await io.read_line();
        require(!line.empty(), "a port in what the server says");
        co_return std::atoi(line.c_str() + line.rfind(':') + 1);
    }
    aio::stream io;

private:
    pid_t pid_;
};

/// The certificates of the tests, as files.
struct files : folder {
    files() {
        const pki& p = certificates();
        write("root.pem", p.root.pem());
        write("host.pem", p.host.chain);
        write("host.key", p.host.key);
        write("user.pem", p.user.chain);
        write("user.key", p.user.key);
    }
};

aio::coro<> echo(aio::stream s) {
    try {
        for (;;) {
            const std::string line = co_await s.read_line();
            if (line.empty()) break;
            co_await s.write(line);
        }
    } catch (const aio::tls_error&) {}  // of a client that wanted to renegotiate
    co_await s.aclose();
}

constexpr const char* versions[] = {"-tls1_2", "-tls1_3"};

}  // namespace

AIO_REAL_TEST("openssl s_client talks to our server, updates its keys, and ends cleanly") {
    if (!there_is("openssl")) co_return;
    const files f;
    const aio::tls_context there = certificates().server();
    for (const char* version : versions) {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
        std::vector<std::string> words = {"openssl", "s_client", "-connect", "127.0.0.1:" + std::to_string(v.port()),
            "-CAfile", f.path("root.pem"), "-verify_return_error", "-verify_hostname", "localhost", "-servername",
            "localhost", version, "-brief"};
        program client(std::move(words));
        co_await client.io.write("hello\n");
        const std::string said = co_await client.until("hello\n");
        EXPECT_NE(said.find("Verification: OK"), std::string::npos) << said;
        if (std::strcmp(version, "-tls1_3") == 0) {
            for (const char* command : {"K\n", "k\n"}) {
                co_await client.io.write(command);
                co_await client.until("KEYUPDATE");
                co_await client.io.write("after\n");
                co_await client.until("after\n");
            }
            client.io.write_eof();
            std::string rest;
            EXPECT_EQ(co_await client.ended(rest), 0) << rest;
        } else {
            co_await client.io.write("R\n");  // renegotiation is refused, and what s_client makes of that is its own
            co_await client.until("RENEGOTIATING");
            client.stop();
        }
        EXPECT_TRUE(co_await v.drain(10s));
        EXPECT_EQ(v.failed_handshakes(), 0u);
    }
}

AIO_REAL_TEST("openssl s_client resumes a session of our server, with a ticket") {
    if (!there_is("openssl")) co_return;
    const files f;
    aio::tls_context there = certificates().server();
    there.request_client_certificate(f.path("root.pem")).alpn("h2", "http/1.1");
    std::vector<bool> resumed;
    std::string subject, protocol;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            resumed.push_back(s.tls()->resumed);
            subject = s.tls()->peer_subject;
            protocol = s.tls()->alpn;
            co_await echo(std::move(s));
        },
        "127.0.0.1", 0, {.context = &there});
    for (const char* version : versions) {
        for (const char* session : {"-sess_out", "-sess_in"}) {
            std::vector<std::string> words = {"openssl", "s_client", "-connect",
                "127.0.0.1:" + std::to_string(v.port()), "-CAfile", f.path("root.pem"), "-verify_return_error", version,
                "-cert", f.path("user.pem"), "-key", f.path("user.key"), "-alpn", "http/1.1", session,
                f.path("session")};
            program client(std::move(words));
            co_await client.io.write("hello\n");
            co_await client.until("hello\n");
            client.io.write_eof();
            std::string rest;
            EXPECT_EQ(co_await client.ended(rest), 0) << rest;
            EXPECT_EQ(subject, "CN=a user\\, Grüße");
            EXPECT_EQ(protocol, "http/1.1");
        }
    }
    EXPECT_EQ(resumed, (std::vector<bool>{false, true, false, true}));
    EXPECT_TRUE(co_await v.drain(10s));
}

AIO_REAL_TEST("our client talks to openssl s_server") {
    if (!there_is("openssl")) co_return;
    const files f;
    aio::tls_context here = certificates().client();
    here.certificate(f.path("user.pem"), f.path("user.key"));
    for (const char* version : versions) {
        std::vector<std::string> words = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", f.path("host.pem"),
            "-key", f.path("host.key"), version, "-rev", "-Verify", "1", "-CAfile", f.path("root.pem"),
            "-verify_return_error"};
        program server(std::move(words));
        const int port = co_await server.port();
        for (int i = 0; i < 3; ++i) {
            aio::stream s = co_await aio::open_connection("localhost", port, {.context = &here});
            EXPECT_EQ(s.tls()->version,
                std::strcmp(version, "-tls1_3") == 0 ? aio::tls_version::v1_3 : aio::tls_version::v1_2);
            EXPECT_EQ(s.tls()->peer_subject, "CN=localhost");
            EXPECT_EQ(s.tls()->resumed, i > 0);
            co_await s.write("abc\n");
            EXPECT_EQ(co_await s.read_line(), "cba\n");
            co_await s.aclose();
        }
        const aio::tls_context nobody = certificates().client();
        const std::string refused = co_await message_of([&]() -> aio::coro<> {
            aio::stream s = co_await aio::open_connection("localhost", port, {.context = &nobody});
            static_cast<void>(co_await s.read(1));
        });
        EXPECT_NE(refused.find("the peer refuses: "), std::string::npos) << refused;
    }
}

AIO_REAL_TEST("a page of openssl s_server -www comes whole, with its end") {
    if (!there_is("openssl")) co_return;
    const files f;
    const aio::tls_context here = certificates().client();
    std::vector<std::string> words = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", f.path("host.pem"),
        "-key", f.path("host.key"), "-www"};
    program server(std::move(words));
    const int port = co_await server.port();
    aio::stream s = co_await aio::open_connection("localhost", port, {.context = &here});
    co_await s.write("GET / HTTP/1.0\r\n\r\n");
    const std::string page = co_await aio::wait_for(s.read(), 20s);
    EXPECT_EQ(page.find("HTTP/1.0 200 ok"), 0u);
    EXPECT_NE(page.find("</BODY></HTML>"), std::string::npos);
    co_await s.aclose();
}

AIO_REAL_TEST("curl gets a large page from our server, and refuses a certificate that it does not trust") {
    if (!there_is("curl")) co_return;
    const files f;
    const aio::tls_context there = certificates().server();
    const std::string body(5'000'000, 'b');
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            static_cast<void>(co_await s.read_until("\r\n\r\n"));
            co_await s.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            co_await s.write(body);
        },
        "127.0.0.1", 0, {.context = &there});
    const std::string url = "https://localhost:" + std::to_string(v.port()) + "/";
    for (const char* version : {"1.2", "1.3"}) {
        std::vector<std::string> words = {
            "curl", "-sS", "--cacert", f.path("root.pem"), "--tls-max", version, "-o", f.path("page"), url};
        program curl(std::move(words));
        std::string output;
        EXPECT_EQ(co_await curl.ended(output), 0) << output;
        EXPECT_EQ(std::filesystem::file_size(f.path("page")), body.size());
    }
    program stranger({"curl", "-sS", "-o", "/dev/null", url});
    std::string output;
    EXPECT_EQ(co_await stranger.ended(output), 60) << output;
    EXPECT_TRUE(co_await v.drain(10s));
    EXPECT_EQ(v.failed_handshakes(), 1u);
}

namespace {

constexpr const char* python_client = R"(
import asyncio, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=sys.argv[1])
    port = int(sys.argv[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    for size in (1, 100, 20000, 300000):
        line = b"x" * size + b"\n"
        writer.write(line)
        await writer.drain()
        assert await reader.readexactly(len(line)) == line
    writer.write(b"bye\n")
    assert await reader.readline() == b"bye\n"
    writer.close()
    await writer.wait_closed()
    # blocking, with a clean end: unwrap() waits for the other side's close_notify
    import socket
    with socket.create_connection(("127.0.0.1", port)) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as s:
            s.sendall(b"once\n")
            assert s.recv(100) == b"once\n"
            s.unwrap()
    print("all went well")
asyncio.run(main())
)";

constexpr const char* python_server = R"(
import asyncio, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
async def serve(reader, writer):
    if await reader.readline() == b"STARTTLS\n":
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(context)
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
async def main():
    plain = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    secure = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, ssl=context)
    print(plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(30)
asyncio.run(main())
)";

}  // namespace

AIO_REAL_TEST("Python's asyncio and ssl talk to our server") {
    if (!there_is("/usr/bin/python3")) co_return;
    const files f;
    const aio::tls_context there = certificates().server();
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.limit = 1 << 20, .context = &there});
    program python({"/usr/bin/python3", "-c", python_client, f.path("root.pem"), std::to_string(v.port())});
    std::string output;
    EXPECT_EQ(co_await python.ended(output), 0) << output;
    EXPECT_EQ(output, "all went well\n");
    EXPECT_TRUE(co_await v.drain(10s));
}

AIO_REAL_TEST("a strict peer tells our clean end from our torn write and our abort") {
    if (!there_is("/usr/bin/python3")) co_return;
    constexpr const char* strict = R"(
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
for how in ("end\n", "torn\n", "abort\n"):
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as raw:
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as s:
            s.sendall(how.encode())
            try:
                got = 0
                while more := s.recv(65536):
                    got += len(more)
                print(how.strip(), got)
            except (ssl.SSLError, ConnectionResetError):
                print(how.strip(), "cut")
)";
    const files f;
    const aio::tls_context there = certificates().server();
    aio::server v = co_await aio::start_server(
        [](aio::stream s) -> aio::coro<> {
            const std::string how = co_await s.read_line();
            if (how == "torn\n") {
                auto writing = aio::create_task(s.write(std::string(50 << 20, 't')));
                co_await aio::sleep(0s);
                writing.cancel();
                try {
                    co_await writing;
                } catch (const aio::cancelled_error&) {}
            } else {
                co_await s.write("some text");
            }
            if (how == "abort\n") s.abort();
        },
        "127.0.0.1", 0, {.context = &there});
    program python({"/usr/bin/python3", "-c", strict, f.path("root.pem"), std::to_string(v.port())});
    std::string output;
    EXPECT_EQ(co_await python.ended(output), 0) << output;
    EXPECT_EQ(output, "end 9\ntorn cut\nabort cut\n");
    EXPECT_TRUE(co_await v.drain(10s));
}

AIO_REAL_TEST("our client talks to Python's asyncio, at once and after STARTTLS") {
    if (!there_is("/usr/bin/python3")) co_return;
    const files f;
    const aio::tls_context here = certificates().client();
    program python({"/usr/bin/python3", "-c", python_server, f.path("host.pem"), f.path("host.key")});
    const std::string ports = co_await python.io.read_line();
    const int plain = std::atoi(ports.c_str()), secure = std::atoi(ports.c_str() + ports.find(' ') + 1);
    const std::string line = std::string(200'000, 'z') + "\n";
    for (const bool upgrade : {false, true}) {
        const aio::stream_options options = {.limit = 1 << 20, .context = upgrade ? nullptr : &here};
        aio::stream s = co_await aio::open_connection("localhost", upgrade ? plain : secure, options);
        if (upgrade) {
            co_await s.write("STARTTLS\n");
            EXPECT_EQ(co_await s.read_line(), "go ahead\n");
            co_await s.start_tls(here, "localhost");
        } else {
            co_await s.write("hello\n");
        }
        EXPECT_TRUE(s.tls());
        co_await s.write(line);
        EXPECT_TRUE(co_await s.read_line() == line);
        co_await s.write("short\n");
        EXPECT_EQ(co_await s.read_line(), "short\n");
        co_await s.aclose();
    }
}
