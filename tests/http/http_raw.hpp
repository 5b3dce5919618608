#pragma once
// Plain sockets for both ends: servers that hang, reset or lie to our client, and clients that do the same to our
// server.
//
//     raw_server server(&hangs);                            // coro<> hangs(raw_connection c)
//     raw_connection c = co_await raw_connect(port);
//     co_await c.write("GET / HTTP/1.1\r\n\r\n");

#include "aio_test.hpp"

#include <aio/detail/io/descriptor_wait.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace aio_test {

class raw_connection {
public:
    explicit raw_connection(int fd) noexcept : fd_(fd) {}
    raw_connection(raw_connection&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}
    raw_connection& operator=(raw_connection&&) = delete;
    ~raw_connection() { close(); }

    void close() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    /// Closes the connection so that the peer gets ECONNRESET.
    void reset() noexcept {
        const linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }
    void shut_down_writing() noexcept { ::shutdown(fd_, SHUT_WR); }
    int fd() const noexcept { return fd_; }

    aio::coro<> write(std::string text) {
        std::string_view left = text;
        while (!left.empty()) {
            const ssize_t n = ::send(fd_, left.data(), left.size(), MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN) throw std::system_error(errno, std::generic_category(), "raw write");
            if (n < 0) {
                co_await aio::detail::fd_ready(fd_, aio::detail::io_entry::writable);
            } else {
                left.remove_prefix(static_cast<std::size_t>(n));
            }
        }
    }
    /// Gives what comes next, or an empty string at the end. A reset counts as the end.
    aio::coro<std::string> read_some() {
        if (!buffer_.empty()) co_return std::exchange(buffer_, {});
        std::string chunk(65536, '\0');
        for (;;) {
            const ssize_t n = ::recv(fd_, chunk.data(), chunk.size(), 0);
            if (n < 0 && errno == EAGAIN) {
                co_await aio::detail::fd_ready(fd_, aio::detail::io_entry::readable);
                continue;
            }
            chunk.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
            co_return chunk;
        }
    }
    /// Gives everything up to and with this text, or what there was at the end of the connection. The rest stays for
    /// later reads.
    aio::coro<std::string> read_until(std::string end) {
        std::string all;
        for (;;) {
            const std::size_t at = all.find(end);
            if (at != all.npos) {
                buffer_ = all.substr(at + end.size());
                all.resize(at + end.size());
                co_return all;
            }
            std::string more = co_await read_some();
            if (more.empty()) co_return all;
            all += more;
        }
    }
    aio::coro<std::string> read_exactly(std::size_t n) {
        std::string all;
        while (all.size() < n) {
            std::string more = co_await read_some();
            if (more.empty()) break;
            all += more;
        }
        if (all.size() > n) {
            buffer_ = all.substr(n);
            all.resize(n);
        }
        co_return all;
    }
    aio::coro<std::string> read_to_end() {
        std::string all;
        for (;;) {
            std::string more = co_await read_some();
            if (more.empty()) co_return all;
            all += more;
        }
    }

private:
    int fd_;
    std::string buffer_;
};

/// Listens on 127.0.0.1 and runs script(connection) for each connection, until it is destroyed.
class raw_server {
public:
    using script = aio::coro<> (*)(raw_connection);

    explicit raw_server(script s) {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd, 200) != 0 ||
            ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
            throw std::system_error(errno, std::generic_category(), "raw_server");
        }
        port_ = ntohs(address.sin_port);
        task_ = aio::create_task(&accept_all, raw_connection(fd), s);
    }
    ~raw_server() { task_.cancel(); }
    raw_server(const raw_server&) = delete;
    raw_server& operator=(const raw_server&) = delete;

    std::uint16_t port() const noexcept { return port_; }
    std::string url(std::string path = "/") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }

private:
    static aio::coro<> quietly(script s, raw_connection c) {
        try {
            co_await s(std::move(c));
        } catch (const std::system_error&) {  // the peer has gone, as it does in tests of cancellation
        }
    }
    static aio::coro<> accept_all(raw_connection listener, script s) {
        std::vector<aio::task<>> running;
        std::exception_ptr end;
        try {
            for (;;) {
                co_await aio::detail::fd_ready(listener.fd(), aio::detail::io_entry::readable);
                const int fd = ::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0) continue;
                std::erase_if(running, [](const aio::task<>& t) { return t.done(); });
                running.push_back(aio::create_task(&quietly, s, raw_connection(fd)));
            }
        } catch (const aio::cancelled_error&) { end = std::current_exception(); }
        for (aio::task<>& t : running) t.cancel();
        std::rethrow_exception(end);
    }

    std::uint16_t port_ = 0;
    aio::task<> task_;
};

inline aio::coro<raw_connection> raw_connect(std::uint16_t port) {
    raw_connection c(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (::connect(c.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        if (errno != EINPROGRESS) throw std::system_error(errno, std::generic_category(), "raw_connect");
        co_await aio::detail::fd_ready(c.fd(), aio::detail::io_entry::writable);
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(c.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) throw std::system_error(error, std::generic_category(), "raw_connect");
    }
    co_return c;
}

/// Reads one response, head and body.
inline aio::coro<std::string> read_response(raw_connection& c) {
    std::string all = co_await c.read_until("\r\n\r\n");
    const std::size_t at = all.find("Content-Length: ");
    if (at != all.npos) all += co_await c.read_exactly(std::stoul(all.substr(at + 16)));
    co_return all;
}
inline std::string body_of(const std::string& response) {
    const std::size_t at = response.find("\r\n\r\n");
    return at == response.npos ? "no response: " + response : response.substr(at + 4);
}
inline int status_in(const std::string& response) {
    return response.size() > 12 ? std::stoi(response.substr(9, 3)) : 0;
}

/// The body of a response in chunks, and "(cut)" behind it if its end is missing.
inline std::string body_of_chunks(const std::string& response) {
    std::string body;
    std::size_t at = response.find("\r\n\r\n");
    at = at == response.npos ? response.size() : at + 4;
    for (;;) {
        const std::size_t end = response.find("\r\n", at);
        if (end == response.npos) return body + "(cut)";
        const std::size_t size = std::stoul(response.substr(at, end - at), nullptr, 16);
        if (size == 0) return response.size() >= end + 4 ? body : body + "(cut)";
        if (response.size() < end + 2 + size + 2) return body + response.substr(end + 2, size) + "(cut)";
        body += response.substr(end + 2, size);
        at = end + 2 + size + 2;
    }
}

}  // namespace aio_test
