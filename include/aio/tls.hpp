#pragma once
// TLS for streams and servers. A tls_context says how: whom to trust, which certificate to show. One context serves
// many connections, on any thread; make it once and keep it.
//
//     aio::tls_context secure = aio::tls_context::client();      // trusts what the system trusts
//     secure.alpn("h2", "http/1.1");
//     aio::stream s = co_await aio::open_connection("example.org", 443, {.tls = true, .context = &secure});
//     std::puts(s.tls()->cipher.c_str());
//     try {
//         co_await s.write("GET / HTTP/1.0\r\n\r\n");
//     } catch (const aio::tls_error& e) {
//         std::puts(e.what());                                    // "TLS write to example.org:443: ..."
//     }
//
//     aio::tls_context own = aio::tls_context::server("chain.pem", "key.pem");
//     auto greet = [](aio::stream client) -> aio::coro<> { co_await client.write("hello\n"); };
//     aio::server v = co_await aio::start_server(greet, "", 8443, {.context = &own});
//
// A client verifies the server's certificates and its name, or its IP address. Both sides speak TLS 1.2 and 1.3. The
// end of a stream is told from a cut: only a peer that says goodbye (close_notify) ends it, anything else is a
// tls_error. Source: Python's ssl.create_default_context.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>
#include <aio/detail/base/state_ptr.hpp>

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

namespace aio::inline v0 {

/// The versions of TLS that may be asked for.
enum class tls_version : std::uint8_t { v1_2, v1_3 };

/// What a connection has agreed on.
struct tls_info {
    tls_version version = tls_version::v1_3;  // of TLS
    std::string cipher;                       // "TLS_AES_256_GCM_SHA384"
    std::string alpn;                         // the chosen protocol; empty if there is none
    std::string peer_subject;                 // of the peer's certificate, "CN=example.org"; empty if it has shown none
    bool resumed = false;                     // the peers have met before, and the handshake was a short one
};

/// A failure of TLS. what() says all of it: "TLS handshake with example.org:443: certificate has expired on
/// 2026-01-01". code() is ECONNRESET or EPIPE if the connection was cut, ETIMEDOUT if the handshake took too long,
/// EACCES if a certificate was refused, EPROTO for other faults of the protocol, and the errno of a file that cannot be
/// read.
class AIO_API tls_error : public std::system_error {
public:
    /// what() is made of these.
    tls_error(std::error_code code, std::string phase, std::string host, std::string reason);
    const char* what() const noexcept override;
    /// "configuration", "handshake", "read" or "write".
    const std::string& phase() const noexcept;
    /// Who the peer is: "example.org:443", or the address of a client. In the phase "configuration": which file.
    const std::string& host() const noexcept;
    const std::string& reason() const noexcept;  // What went wrong: "certificate has expired on 2026-01-01".

private:
    struct texts;
    std::shared_ptr<const texts> texts_;
};

namespace detail {
class tls_context_state;

template<>
struct references_of<tls_context_state> {
    static void retain(tls_context_state& state) noexcept;
    static void release(tls_context_state& state) noexcept;
};
/// Points to the tls_context_state, which src/io/tls_context.cpp defines.
using tls_context_ref = state_ptr<tls_context_state>;
}  // namespace detail

/// How connections use TLS. A copy is a handle to the same context. Several threads may use one. What is changed holds
/// for the handshakes that begin afterwards, and forgets the sessions that could be resumed.
///
/// Certificates and keys are PEM: the path of a file, or the text itself, if it has "-----BEGIN" in it. All functions
/// throw tls_error if a file cannot be read, is no PEM, or does not fit, and leave the context as it was then; and
/// std::logic_error for what only a context of the other side has, and for an empty handle. Messages hold no secrets.
class tls_context {
public:
    /// Gives an empty handle, which no function takes.
    tls_context() noexcept = default;
    /// For the side that connects. Verifies the peer against the certificates that the system trusts (or those that the
    /// environment's SSL_CERT_FILE and SSL_CERT_DIR name).
    static tls_context client();
    /// For the side that accepts. The chain begins with the server's own certificate; those that have signed it follow.
    /// The key must not be encrypted.
    static tls_context server(std::string chain_pem, std::string key_pem);

    /// Trusts the certificates in pem, and no longer those of the system. A later call adds more. Clients only.
    tls_context& trust_file(std::string pem);
    /// The certificate to show: of a client that the server asks for one, or of a server in place of the first one.
    tls_context& certificate(std::string chain_pem, std::string key_pem);
    /// The application protocols, the preferred one first. A server takes the first one of its own that the client
    /// offers, and refuses a client that offers only others.
    template<class... Names>
        requires(std::convertible_to<Names, std::string_view> && ...)
    tls_context& alpn(const Names&... names) {
        std::string list;
        (add_protocol(list, names), ...);
        return set_alpn(std::move(list));
    }
    /// The oldest version to accept; v1_2 without this call.
    tls_context& minimum_version(tls_version version);
    /// False: the peer's certificate is not looked at, so anybody can pretend to be the peer. For tests. Clients only.
    tls_context& verify(bool on);
    /// Refuses clients without a certificate that one of ca_pem has signed. Servers only.
    tls_context& request_client_certificate(std::string ca_pem);
    /// Reads all files again, for connections that begin afterwards. Reading blocks the calling thread.
    void reload();

    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }

    /// Throws std::logic_error if the handle is empty.
    const detail::tls_context_ref& detail_state() const;

private:
    explicit tls_context(detail::tls_context_ref state) noexcept;
    static void add_protocol(std::string& list, std::string_view name);
    tls_context& set_alpn(std::string list);
    detail::tls_context_ref state_;
};

namespace detail {
/// The context of an options' member, which may be null.
inline tls_context_ref context_of(const tls_context* context) {
    return context ? context->detail_state() : tls_context_ref();
}
}  // namespace detail

}  // namespace aio::inline v0
