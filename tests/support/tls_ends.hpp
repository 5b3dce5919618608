#pragma once
// What the tests of TLS share: certificates, two ends that speak TLS in memory, and what has gone wrong as text.

#include "aio_test.hpp"
#include "certificates.hpp"
#include "folder.hpp"
#include "io/tls_context.hpp"

#include <string>
#include <utility>

#include <openssl/ssl.h>

namespace aio_test {

struct pki {
    authority root{"a root of the tests"};
    identity host = root.issue({});
    identity user = root.issue({.name = "a user, Grüße", .alternatives = "", .not_before = "20200101000000Z"});

    aio::tls_context client() const { return aio::tls_context::client().trust_file(root.pem()); }
    aio::tls_context server() const { return aio::tls_context::server(host.chain, host.key); }
};
inline pki& certificates() {
    static pki made;
    return made;
}

struct tls_ends {
    aio::stream client, server;
    tls_ends(aio::stream c, aio::stream s) noexcept : client(std::move(c)), server(std::move(s)) {}
};

/// Has the context speak TLS 1.2 only, until it is changed again.
inline aio::tls_context older(aio::tls_context context) {
    SSL_CTX_set_max_proto_version(context.detail_state()->setup()->context.get(), TLS1_2_VERSION);
    return context;
}
inline aio::tls_context old_server() { return older(certificates().server()); }

/// Runs the handshake of both ends.
inline aio::coro<tls_ends> secured_by(
    aio::tls_context client, aio::tls_context server, std::string name = "localhost", std::size_t capacity = 65536) {
    auto [here, there] = aio::testing::stream_pair({.capacity = capacity});
    co_await aio::gather(here.start_tls(client, name), there.start_tls(server));
    co_return tls_ends(std::move(here), std::move(there));
}
inline aio::coro<tls_ends> secured(aio::tls_version version = aio::tls_version::v1_3, std::size_t capacity = 65536) {
    aio::tls_context server = version == aio::tls_version::v1_3 ? certificates().server() : old_server();
    return secured_by(certificates().client(), std::move(server), "localhost", capacity);
}

/// What fn has thrown, or "nothing".
template<class F>
aio::coro<std::string> message_of(F fn) {
    std::string message = "nothing";
    try {
        co_await fn();
    } catch (const std::exception& e) { message = e.what(); }
    co_return message;
}
template<class F>
aio::coro<int> errno_of(F fn) {
    int error = 0;
    try {
        co_await fn();
    } catch (const std::system_error& e) { error = e.code().value(); }
    co_return error;
}

/// What the client and the server say of a connection that fails: in the handshake, or, of a client whose handshake has
/// ended before the server looked at it, with the first read.
inline aio::coro<std::pair<std::string, std::string>> failures(
    aio::tls_context client, aio::tls_context server, std::string name = "localhost") {
    auto [here, there] = aio::testing::stream_pair();
    auto connect = [&]() -> aio::coro<> {
        co_await here.start_tls(client, name);
        static_cast<void>(co_await here.read(1));
    };
    auto accept = [&]() -> aio::coro<> { co_await there.start_tls(server); };
    auto both = co_await aio::gather(message_of(connect), message_of(accept));
    co_return std::pair<std::string, std::string>(std::get<0>(both), std::get<1>(both));
}

}  // namespace aio_test
