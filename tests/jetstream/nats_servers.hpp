#pragma once
// nats-server, alone or three as a cluster, on free ports of loopback, with a store in a folder that goes with it. Each
// has a time limit, can be killed with -9, and started again with what it has stored.
#include "folder.hpp"
#include "other_program.hpp"

#include <aio/jetstream.hpp>

#include <csignal>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace aio_test {

/// True if nats-server is installed; else the running test is skipped.
inline bool there_is_nats() { return there_is("nats-server"); }

class nats_server {
public:
    /// extra: further lines of its configuration.
    explicit nats_server(std::string extra = {}, std::string name = "alone") : name_(std::move(name)) {
        port_ = free_port();
        extra_ = std::move(extra);
    }
    nats_server(nats_server&&) = delete;
    ~nats_server() { kill(); }

    /// Starts it, and waits until it answers.
    aio::coro<> start() {
        start_only();
        co_await answers();
    }
    void start_only() {
        place_.write("conf",
            "server_name: " + name_ + "\nlisten: 127.0.0.1:" + std::to_string(port_) + "\npid_file: \"" +
                place_.path("pid") + "\"\nlog_file: \"" + place_.path("log") + "\"\njetstream { store_dir: \"" +
                place_.path("store") + "\", max_mem: 256MB, max_file: 2GB }\n" + extra_ + "\n");
        program_.emplace(
            std::vector<std::string>{"nats-server", "-c", place_.path("conf")}, 300);  // elections take long
    }
    aio::coro<> answers() {
        for (int tries = 0;; ++tries) {
            AIO_REQUIRE(tries < 3'000);
            try {
                aio::stream s = co_await aio::open_connection("127.0.0.1", port_);
                const std::string line = co_await s.read_line();
                if (line.starts_with("INFO")) break;
            } catch (const std::system_error&) {}
            co_await aio::sleep(2ms);
        }
    }
    /// Kills it with -9, and waits until it is gone.
    void kill() { signal(SIGKILL); }
    /// Stops and continues its process: a server that does not answer, and is not gone.
    void pause() const { ::kill(pid(), SIGSTOP); }
    void go_on() const { ::kill(pid(), SIGCONT); }
    void signal(int number) {
        if (!program_) return;
        const pid_t running = pid();
        if (running > 0) {
            ::kill(running, number);
            ::kill(running, SIGCONT);
        }
        program_.reset();
        ::unlink(place_.path("pid").c_str());
    }
    bool running() const { return program_.has_value(); }
    std::uint16_t port() const { return port_; }
    std::string url() const { return "nats://127.0.0.1:" + std::to_string(port_); }
    std::string log() const { return place_.path("log"); }

private:
    pid_t pid() const {
        pid_t number = 0;
        std::ifstream(place_.path("pid")) >> number;
        return number;
    }
    folder place_;
    std::string name_, extra_;
    std::uint16_t port_ = 0;
    std::optional<other_program> program_;
};

/// Three servers that replicate among each other.
class nats_cluster {
public:
    nats_cluster() {
        std::vector<std::string> routes;
        for (int i = 0; i < 3; ++i) routes.push_back(std::to_string(free_port()));
        for (int i = 0; i < 3; ++i) {
            std::string extra =
                "cluster { name: three, listen: \"127.0.0.1:" + routes[static_cast<std::size_t>(i)] + "\", routes: [";
            for (const std::string& port : routes) extra += "\"nats://127.0.0.1:" + port + "\", ";
            servers_.push_back(
                std::make_unique<nats_server>(extra.substr(0, extra.size() - 2) + "] }", "s" + std::to_string(i + 1)));
        }
    }
    aio::coro<> start() {
        for (auto& one : servers_) one->start_only();
        for (auto& one : servers_) co_await one->answers();
    }
    nats_server& operator[](std::size_t i) { return *servers_[i]; }
    std::string urls() const {
        std::string all;
        for (const auto& one : servers_) all += (all.empty() ? "" : ",") + one->url();
        return all;
    }

private:
    std::vector<std::unique_ptr<nats_server>> servers_;
};

}  // namespace aio_test
