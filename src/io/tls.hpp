#pragma once
// TLS inside of the library: what stream.cpp, connect.cpp and server.cpp need of it. Nothing of OpenSSL shows here.
// docs/internals/tls.md says how the parts fit together.

#include "io/transport.hpp"

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/io/stream_state.hpp>
#include <aio/tls.hpp>

#include <memory>
#include <string>
#include <utility>

namespace aio::inline v0::detail {

/// Why TLS has failed: an errno, and a sentence without a subject of its own.
struct tls_fault {
    int error = 0;       // ENOMEM: what is thrown is std::bad_alloc
    std::string reason;  // empty: what the errno says
};

/// What a stream keeps of its TLS, also when it is closed, for the errors that it throws.
struct tls_report {
    explicit tls_report(std::string peer) noexcept : host(std::move(peer)) {}
    [[noreturn]] void throw_fault(const char* phase, const tls_fault& fault, int error) const;
    std::string host;
    tls_fault handshake, read, write;
    std::unique_ptr<tls_report> below;  // of TLS that carries this TLS
};

/// A transport that encrypts what another transport carries. Until the handshake has ended, reads and writes would
/// block.
class tls_transport : public transport {
public:
    /// Goes on with the handshake: moved(0) says that it has ended well, would_block that there is nothing to read yet.
    virtual io_result handshake() noexcept = 0;
    /// The beginning of what the peer has sent: the stream had read it already.
    virtual void begin_with(std::string bytes) noexcept = 0;

protected:
    using transport::transport;
};

/// Who the peer should be, and how to speak with it.
class tls_settings {
public:
    tls_settings(tls_context_ref c, std::string name, delay t) noexcept
        : context(std::move(c)), server_name(std::move(name)), timeout(t) {}
    tls_context_ref context;
    std::string server_name;  // of a client's peer; empty if it is not known
    delay timeout;            // for the handshake
};

/// The context of the clients that name none. It is made once.
tls_context_ref default_client_context();
bool is_server_side(const tls_context_ref& context) noexcept;
/// Takes inner over if it succeeds. report must live as long as the transport. Throws std::invalid_argument if a client
/// has no name to verify, or one that cannot be verified.
std::unique_ptr<tls_transport> make_tls_transport(transport_ptr& inner, const tls_settings& how, tls_report& report);
/// Begins TLS on the stream, whose reader and writers have left, and completes when the handshake has ended. A failure,
/// a cancel and the time limit close the stream. host: the peer's name in messages. Throws tls_error,
/// std::invalid_argument, and std::logic_error if the stream is in use.
coro<> begin_tls(stream_ptr stream, tls_settings how, std::string host);

}  // namespace aio::inline v0::detail
