// What inherited_sockets_test starts with sockets that it inherits. For each it prints the name and the address, and
// serves one client: a line goes back with the name of the socket before it.
#include <aio/aio.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>

namespace {

aio::coro<> serve_one(aio::inherited_socket inherited) {
    const std::string name = inherited.name;
    int type = 0;
    socklen_t size = sizeof type;
    ::getsockopt(inherited.socket.get(), SOL_SOCKET, SO_TYPE, &type, &size);
    const bool close_on_exec = (::fcntl(inherited.socket.get(), F_GETFD) & FD_CLOEXEC) != 0;
    if (type == SOCK_DGRAM) {
        aio::datagrams d = co_await aio::bind_datagrams(std::move(inherited.socket));
        std::printf("%s datagrams %s %d\n", name.c_str(), d.local().to_string().c_str(), close_on_exec);
        std::fflush(stdout);
        aio::datagram m = co_await d.receive();
        co_await d.send(name + " " + m.data, m.from);
        co_await d.aclose();
        co_return;
    }
    aio::event served;
    auto echo = [&](aio::stream s) -> aio::coro<> {
        const std::string line = co_await s.read_line();
        co_await s.write(name + " " + line);
        co_await s.aclose();
        served.set();
    };
    aio::server v = co_await aio::start_server(echo, std::move(inherited.socket));
    std::printf("%s listens %d\n", name.c_str(), close_on_exec);
    std::fflush(stdout);
    co_await served.wait();
    co_await v.drain(std::nullopt);
}

aio::coro<int> serve_all() {
    std::vector<aio::coro<>> all;
    try {
        for (aio::inherited_socket& s : aio::inherited_sockets()) all.push_back(serve_one(std::move(s)));
        if (all.empty()) std::printf("none\n");
        co_await aio::gather(std::move(all));
    } catch (const std::system_error& e) {
        std::printf("%d %s\n", e.code().value(), e.what());
        co_return 1;
    }
    const bool left = std::getenv("LISTEN_FDS") || std::getenv("LISTEN_PID") || std::getenv("LISTEN_FDNAMES");
    std::printf(left || !aio::inherited_sockets().empty() ? "variables are left\n" : "done\n");
    co_return 0;
}

}  // namespace

int main() { return aio::run_main(serve_all()); }
