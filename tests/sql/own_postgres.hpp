#pragma once
// A PostgreSQL server of the test's own, which the test may stop, start again, and kill processes of.
//
//     own_postgres server;
//     co_await server.make();
//     co_await server.start();
//     ... connect to server.url() ...
//     co_await server.stop(SIGINT);

#include "other_program.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace aio_test {

class own_postgres {
public:
    own_postgres() : port_(free_port()) {
        for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql")) {
            const std::string bin = version.path() / "bin";
            if (bin > bin_ && std::filesystem::exists(bin + "/initdb")) bin_ = bin;
        }
        AIO_REQUIRE(!bin_.empty());
        std::string name = std::filesystem::temp_directory_path() / "aio_own_postgres.XXXXXX";
        AIO_REQUIRE(::mkdtemp(name.data()) != nullptr);
        folder_ = name;
        // PostgreSQL refuses to run as root.
        if (::geteuid() == 0) as_server_ = "setpriv --reuid=postgres --regid=postgres --clear-groups -- ";
    }
    ~own_postgres() {
        if (program_) {
            tell(SIGQUIT);
            program_.reset();
        }
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    own_postgres(const own_postgres&) = delete;
    own_postgres& operator=(const own_postgres&) = delete;

    /// Makes an empty cluster of databases, and a certificate.
    aio::coro<> make() {
        std::string text = "cd " + folder_ + " && umask 077 && ";
        if (!as_server_.empty()) text += "chown postgres: . && ";
        text += as_server_ + "sh -c 'echo secret >password && " + bin_ +
            "/initdb -D data -U aio --auth=scram-sha-256 --pwfile=password --locale=C -E UTF8 --no-sync && openssl req "
            "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout data/server.key -out data/server.crt' "
            ">log 2>&1 && echo made || cat log";
        other_program program({"sh", "-c", text});
        const std::string said = co_await program.rest();
        if (said != "made\n") throw std::runtime_error("no cluster of PostgreSQL: " + said);
    }
    /// Starts the server, and waits until it lets clients in.
    aio::coro<> start() {
        program_.emplace(std::vector<std::string>{"sh", "-c",
            "cd " + folder_ + " && exec " + as_server_ + bin_ + "/postgres -D data -p " + std::to_string(port_) +
                " -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c ssl=on 2>&1"});
        co_await until_ready();
    }
    /// Waits until the server says that it lets clients in: once it has started, or has recovered.
    aio::coro<> until_ready() {
        for (;;) {
            const std::string line = co_await program_->line();
            if (line.empty()) throw std::runtime_error("the server has ended");
            if (line.find("ready to accept connections") != std::string::npos) co_return;
        }
    }
    /// SIGINT: the server sends its clients away and ends. SIGQUIT: it ends at once, as in a crash.
    aio::coro<> stop(int how) {
        tell(how);
        static_cast<void>(co_await program_->rest());
        program_.reset();
    }
    std::string url() const { return "postgresql://aio:secret@127.0.0.1:" + std::to_string(port_) + "/postgres"; }
    int port() const { return port_; }

private:
    void tell(int signal) const {
        std::ifstream file(folder_ + "/data/postmaster.pid");
        pid_t server = 0;
        if (file >> server && server > 1) ::kill(server, signal);
    }

    std::uint16_t port_;
    std::string bin_, folder_, as_server_;
    std::optional<other_program> program_;
};

}  // namespace aio_test
