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
        watch_port_ = free_port();
        extra_ = std::move(extra);
    }
    void configure(std::string extra) { extra_ = std::move(extra); }
    nats_server(nats_server&&) = delete;
    ~nats_server() { kill(); }

    /// Starts it, and waits until it answers.
    aio::coro<> start() {
        start_only();
        co_await answers();
    }
    void start_only() {
        place_.write("conf",
            "server_name: " + name_ + "\nlisten: 127.0.0.1:" + std::to_string(port_) +
                "\nhttp: 127.0.0.1:" + std::to_string(watch_port_) + "\npid_file: \"" + place_.path("pid") +
                "\"\nlog_file: \"" + place_.path("log") + "\"\njetstream { store_dir: \"" + place_.path("store") +
                "\", max_mem: 256MB, max_file: " + max_file + " }\n" + extra_ + "\n");
        program_.emplace(
            std::vector<std::string>{"nats-server", "-c", place_.path("conf")}, time_limit);  // elections take long
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
    /// Tells it to end soon, which it tells its clients ("lame duck mode").
    void lame_duck() const { ::kill(pid(), SIGUSR2); }
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
    /// What this server alone says of its copies of the streams, as JSON: also one that is no leader.
    aio::coro<std::string> streams() {
        aio::stream s = co_await aio::open_connection("127.0.0.1", watch_port_);
        const std::string question = "GET /jsz?streams=true&consumers=true HTTP/1.0\r\n\r\n";
        co_await s.write(question);
        const std::string said = co_await s.read();
        const std::size_t body = said.find("\r\n\r\n");
        AIO_REQUIRE(body != std::string::npos);
        co_return said.substr(body + 4);
    }

    std::string max_file = "2GB";
    int time_limit = 300;  // seconds, from each start on

private:
    pid_t pid() const {
        pid_t number = 0;
        std::ifstream(place_.path("pid")) >> number;
        return number;
    }
    folder place_;
    std::string name_, extra_;
    std::uint16_t port_ = 0, watch_port_ = 0;
    std::optional<other_program> program_;
};

/// Three servers that replicate among each other.
class nats_cluster {
public:
    nats_cluster() {
        for (std::size_t i = 0; i < 3; ++i) {
            route_ports_.push_back(free_port());
            servers_.push_back(std::make_unique<nats_server>("", "s" + std::to_string(i + 1)));
        }
    }
    /// The ways between the servers go through these proxies: from 0 to 1, from 0 to 2, from 1 to 2.
    void route_through(const std::vector<std::uint16_t>& ports) { proxies_ = ports; }
    std::uint16_t route_port(std::size_t i) const { return route_ports_[i]; }

    aio::coro<> start() {
        for (std::size_t i = 0; i < 3; ++i) servers_[i]->configure(configuration(i));
        for (auto& one : servers_) one->start_only();
        for (auto& one : servers_) co_await one->answers();
    }
    nats_server& operator[](std::size_t i) { return *servers_[i]; }
    std::string extra;  // further lines of each server's configuration
    std::string urls() const {
        std::string all;
        for (const auto& one : servers_) all += (all.empty() ? "" : ",") + one->url();
        return all;
    }

private:
    std::string configuration(std::size_t i) const {
        std::string routes;
        const auto add = [&routes](std::uint16_t port) {
            routes += (routes.empty() ? "\"nats://127.0.0.1:" : ", \"nats://127.0.0.1:") + std::to_string(port) + "\"";
        };
        if (proxies_.empty()) {
            for (const std::uint16_t port : route_ports_) add(port);
        } else {  // a server takes the size of the cluster from the number of its routes: each has three
            add(route_ports_[i]);
            for (std::size_t j = 0; j < i; ++j) add(static_cast<std::uint16_t>(1 + j));  // they come to it
            for (std::size_t j = i + 1; j < 3; ++j) add(proxies_[i + j - 1]);
        }
        // A server tells the others where it is, and they would go past the proxies: it tells them where nothing is.
        return "cluster { name: three, listen: \"127.0.0.1:" + std::to_string(route_ports_[i]) + "\"" +
            (proxies_.empty() ? "" : ", advertise: \"127.0.0.1:1\"") + ", routes: [" + routes + "] }\n" + extra;
    }

    std::vector<std::uint16_t> route_ports_, proxies_;
    std::vector<std::unique_ptr<nats_server>> servers_;
};

/// Whether all three have all there is of a queue: a cluster survives the loss of one of three, not of two.
inline aio::coro<bool> is_current(aio::jetstream::connection& js, const std::string& queue) {
    const std::string questions[] = {"$JS.API.STREAM.INFO." + queue, "$JS.API.CONSUMER.LIST." + queue};
    for (const std::string& question : questions) {
        std::string said;
        try {
            const aio::jetstream::message m = co_await js.request(question, "", {.timeout = 1s});
            said = m.data;
        } catch (const aio::timeout_error&) {
        } catch (const aio::jetstream::error&) {}
        const bool all = said.find("\"leader\":") != std::string::npos &&
            said.find("\"current\":true") != std::string::npos && said.find("\"current\":false") == std::string::npos;
        if (!all) co_return false;
    }
    co_return true;
}

/// The options of a client of a cluster whose servers are killed.
inline constexpr aio::jetstream::connect_options patient_in_cluster{.connect_timeout = 1s,
    .reconnect_wait = 10ms,
    .max_reconnect_wait = 200ms,
    .request_timeout = 20s,
    .ping_interval = 500ms};

}  // namespace aio_test
