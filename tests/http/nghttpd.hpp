#pragma once
// nghttpd, the HTTP/2 server of nghttp2.
#include "certificates.hpp"
#include "folder.hpp"
#include "http_raw.hpp"
#include "other_program.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace aio_test {

/// nghttpd on a free port, in a folder with the files page (5 bytes) and large (a megabyte).
class nghttpd {
public:
    explicit nghttpd(bool tls) {
        place.write("page", "page!");
        place.write("large", std::string(1'000'000, 'x'));
        const identity host = root.issue({});
        place.write("root.pem", root.pem());
        place.write("host.pem", host.chain);
        place.write("host.key", host.key);
        tls_ = tls;
        port_ = free_port();
    }
    aio::coro<> start() {
        std::vector<std::string> command{"nghttpd", "-d", place.path("."), "-a", "127.0.0.1"};
        if (tls_) {
            command.insert(command.end(), {std::to_string(port_), place.path("host.key"), place.path("host.pem")});
        } else {
            command.insert(command.end(), {"--no-tls", std::to_string(port_)});
        }
        program_.emplace(command);
        for (;;) {
            try {
                raw_connection c = co_await raw_connect(port_);
                break;
            } catch (const std::system_error&) {}
            co_await aio::sleep(1ms);
        }
    }
    std::string url(const std::string& path) const {
        return (tls_ ? "https://localhost:" : "http://127.0.0.1:") + std::to_string(port_) + path;
    }
    std::string ca() const { return place.path("root.pem"); }
    folder place;

private:
    authority root{"a root of the tests"};
    std::uint16_t port_ = 0;
    bool tls_ = false;
    std::optional<other_program> program_;
};

}  // namespace aio_test
