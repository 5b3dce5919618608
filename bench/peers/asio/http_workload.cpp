// W13 of bench/io_workload.cpp in Boost.Beast, on Asio's coroutines: 100 of them with a connection each. As in
// workload.cpp there are no threads, and the executor is the io_context's own.
//
// Usage: http_workload W13 OPERATIONS ADDRESS
// Prints one JSON line, and fails if the work was not really done. See ../../README.md.

#include <array>
#include <boost/asio.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::deferred;
using asio::ip::tcp;
using boost::system::error_code;

using executor = asio::io_context::executor_type;
template<class T = void>
using coro = asio::awaitable<T, executor>;
using event = asio::experimental::channel<executor, void(error_code)>;
using socket = asio::basic_stream_socket<tcp, executor>;

void require(bool done) {
    if (!done) {
        std::fputs("the workload has not done its work\n", stderr);
        std::exit(1);
    }
}

double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct client {
    socket connection;
    beast::flat_buffer buffer;
};

coro<> get_often(client& c, const http::request<http::empty_body>& request, std::size_t times, std::size_t& bytes) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await http::async_write(c.connection, request, deferred);
        http::response<http::string_body> response;
        co_await http::async_read(c.connection, c.buffer, response, deferred);
        require(response.result() == http::status::ok && response.keep_alive());
        bytes += response.body().size();
    }
}

coro<> get_all(
    executor ex, std::vector<client>& clients, const http::request<http::empty_body>& request, std::size_t operations) {
    event done(ex, 1);
    std::size_t bytes = 0, left = clients.size();
    for (client& c : clients) {
        asio::co_spawn(ex, get_often(c, request, operations / clients.size(), bytes), [&](std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
            if (--left == 0) done.try_send(error_code());
        });
    }
    co_await done.async_receive(deferred);
    require(bytes == operations * 1024);
}

coro<> gets(executor ex, std::string host, std::string port, std::size_t operations) {
    http::request<http::empty_body> request(http::verb::get, "/", 11);
    request.set(http::field::host, host + ":" + port);
    request.set(http::field::user_agent, BOOST_BEAST_VERSION_STRING);
    const tcp::endpoint address(asio::ip::make_address(host), static_cast<unsigned short>(std::stoi(port)));
    std::vector<client> clients;
    for (int i = 0; i < 100; ++i) {
        clients.push_back({socket(ex), {}});
        co_await clients.back().connection.async_connect(address, deferred);
        clients.back().connection.set_option(tcp::no_delay(true));
    }
    co_await get_all(ex, clients, request, 100);

    const double cpu_start = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    co_await get_all(ex, clients, request, operations);
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"workload\": \"W13\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.9f}\n", operations,
        wall, cpu_seconds() - cpu_start);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 || argv[1] != std::string_view("W13"))
        return std::fputs("usage: http_workload W13 OPERATIONS ADDRESS\n", stderr), 2;
    const std::size_t operations = std::strtoull(argv[2], nullptr, 10) / 100 * 100;
    // http://HOST:PORT/
    const std::string address = argv[3];
    const std::size_t colon = address.rfind(':');
    require(operations > 0 && colon > 7 && address.back() == '/');
    const std::string host = address.substr(7, colon - 7), port = address.substr(colon + 1);

    asio::io_context context(1);
    asio::co_spawn(context.get_executor(),
        gets(context.get_executor(), host, port.substr(0, port.size() - 1), operations), [](std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
        });
    context.run();
}
