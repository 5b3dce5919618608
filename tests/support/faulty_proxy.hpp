#pragma once
// A proxy that stands between a client and its server and does to the bytes what networks do: it cuts the connection
// after so many bytes in either direction, by an end or by a reset, it delays, it splits, and it holds back.
//
//     faulty_proxy proxy("127.0.0.1", server_port);
//     proxy.plan = [](std::size_t connection) {               // 0 is the first that comes
//         faulty_proxy::faults f;
//         if (connection == 0) f.to_client = 100;              // the client gets 100 bytes, then no connection
//         return f;
//     };
//     co_await aio::enter(std::ref(proxy));
//     ... connect to 127.0.0.1 and proxy.port() ...

#include <aio/aio.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

class faulty_proxy {
public:
    static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

    /// What the proxy does to one connection.
    struct faults {
        std::size_t to_server = never;         // cuts the connection after this many bytes to the server ...
        std::size_t to_client = never;         // ... or this many bytes to the client
        std::size_t piece = 16384;             // the most bytes that are passed on at once
        std::chrono::nanoseconds delay{0};     // how long each piece is held back
        aio::event* hold_to_server = nullptr;  // if not null: a piece is passed on only while the event is set
        aio::event* hold_to_client = nullptr;
        bool reset = false;  // cuts by a reset instead of an end of the stream
    };

    faulty_proxy(std::string host, int port) : host_(std::move(host)), port_(port) {}
    faulty_proxy(const faulty_proxy&) = delete;
    faulty_proxy& operator=(const faulty_proxy&) = delete;

    /// Begins to listen.
    aio::coro<faulty_proxy&> enter() {
        auto handler = [this](aio::stream client) { return serve(std::move(client)); };
        server_ = co_await aio::start_server(std::move(handler), "127.0.0.1", 0);
        co_return *this;
    }
    /// Aborts the connections that are left.
    aio::coro<> exit(std::exception_ptr) {
        server_.abort_clients();
        static_cast<void>(co_await server_.drain(std::chrono::seconds(0)));
    }

    int port() const { return server_.port(); }
    std::size_t accepted() const { return accepted_; }
    /// Waits until n connections have been accepted.
    aio::coro<> until_accepted(std::size_t n) {
        while (accepted_ < n) {
            came_.clear();
            co_await came_.wait();
        }
    }
    /// Cuts the connections that are there, by a reset.
    void cut() { server_.abort_clients(); }
    /// How many bytes have been passed on so far, on all connections together.
    std::size_t bytes_to_server() const { return to_server_; }
    std::size_t bytes_to_client() const { return to_client_; }

    /// Gives the faults of the connection of that number. Without a plan there are none.
    std::function<faults(std::size_t)> plan;

private:
    struct way {
        aio::stream& from;
        aio::stream& to;
        std::size_t most;
        aio::event* hold;
        std::size_t& passed;
        way(aio::stream& f, aio::stream& t, std::size_t m, aio::event* h, std::size_t& p)
            : from(f), to(t), most(m), hold(h), passed(p) {}
    };

    aio::coro<> serve(aio::stream client) {
        const std::size_t number = accepted_++;
        came_.set();
        const faults f = plan ? plan(number) : faults();
        aio::stream server;
        try {
            server = co_await aio::open_connection(host_, port_);
        } catch (const std::system_error&) { co_return; }  // the client sees its connection end
        const way there(client, server, f.to_server, f.hold_to_server, to_server_);
        const way back(server, client, f.to_client, f.hold_to_client, to_client_);
        co_await aio::gather(pump(there, f), pump(back, f));
    }

    static aio::coro<> pump(way w, faults f) {
        std::size_t gone = 0;
        try {
            std::vector<std::byte> buffer(f.piece);
            while (gone < w.most) {
                const std::size_t n = co_await w.from.read_some(buffer);
                if (n == 0) {
                    w.to.write_eof();
                    co_return;
                }
                if (w.hold) co_await w.hold->wait();
                if (f.delay.count() > 0) co_await aio::sleep(f.delay);
                const std::size_t part = std::min(n, w.most - gone);
                co_await w.to.write(std::span<const std::byte>(buffer.data(), part));
                gone += part;
                w.passed += part;
            }
        } catch (const std::exception&) {}  // one side has failed: both are closed
        w.from.detail_state()->close(f.reset);
        w.to.detail_state()->close(f.reset);
    }

    std::string host_;
    int port_;
    aio::server server_;
    aio::event came_;
    std::size_t accepted_ = 0, to_server_ = 0, to_client_ = 0;
};
