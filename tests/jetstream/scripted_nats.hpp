#pragma once
// A server of NATS whose words a test writes itself, over streams in memory: for what no real server does at a certain
// moment. It runs on virtual time.
//
//     scripted_nats servers;                         // this thread's connections come here
//     auto js = aio::enter(jetstream::connect("nats://a"));
//     aio::stream s = co_await servers.next();       // the server's end of a connection that has logged in
#include "aio_test.hpp"

#include <aio/testing.hpp>

#include <jetstream/client.hpp>

#include <set>
#include <string>
#include <system_error>
#include <vector>

namespace aio_test {

class scripted_nats {
public:
    /// capacity: bytes that may be on their way; beyond, a client's writes wait.
    explicit scripted_nats(std::size_t capacity = 65536) : capacity_(capacity) {
        aio::detail::this_threads_dialer() = [this](const aio::detail::nats_server& s) { return connect(s.host); };
    }
    scripted_nats(const scripted_nats&) = delete;
    scripted_nats& operator=(const scripted_nats&) = delete;
    ~scripted_nats() { aio::detail::this_threads_dialer() = nullptr; }

    /// more: members of the JSON of INFO, with a comma before them.
    aio::coro<aio::stream> next(std::string more = {}) {
        aio::stream s = co_await came_.get();
        const std::string hello = "INFO {\"headers\":true,\"max_payload\":1048576" + more + "}\r\n";
        co_await s.write(std::string_view(hello));
        co_await until(s, "PING");
        co_await s.write(std::string_view("PONG\r\n"));
        co_return s;
    }
    /// Reads lines until one that begins with this word, and gives them all.
    static aio::coro<std::vector<std::string>> until(aio::stream& s, std::string word) {
        std::vector<std::string> all;
        while (all.empty() || !all.back().starts_with(word)) {
            std::string line = co_await s.read_line();
            AIO_REQUIRE(!line.empty());
            while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
            all.push_back(std::move(line));
        }
        co_return all;
    }
    /// Reads lines until a SUB of this subject, and gives its number.
    static aio::coro<std::string> until_subscribed(aio::stream& s, std::string subject) {
        const std::string begin = "SUB " + subject + " ";
        const std::vector<std::string> lines = co_await until(s, begin);
        co_return lines.back().substr(lines.back().rfind(' ') + 1);
    }
    static std::string with_headers(
        const std::string& subject, const std::string& sid, const std::string& lines, const std::string& data) {
        const std::string head = "NATS/1.0\r\n" + lines + "\r\n";
        return "HMSG " + subject + " " + sid + " " + std::to_string(head.size()) + " " +
            std::to_string(head.size() + data.size()) + "\r\n" + head + data + "\r\n";
    }

    std::vector<std::string> tried;  // the hosts that were asked for
    std::set<std::string> unreachable;

private:
    aio::coro<aio::stream> connect(std::string host) {
        tried.push_back(host);
        if (unreachable.count(host)) throw std::system_error(ECONNREFUSED, std::generic_category(), host);
        auto [ours, theirs] = aio::testing::stream_pair({.capacity = capacity_, .limit = std::size_t(4) * 1024 * 1024});
        came_.put_nowait(std::move(theirs));
        aio::stream end = std::move(ours);
        co_return end;
    }
    std::size_t capacity_;
    aio::queue<aio::stream> came_;
};

}  // namespace aio_test
