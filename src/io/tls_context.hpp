#pragma once
// What is behind aio::tls_context: settings, the SSL_CTX that is made of them, and the sessions that a client may
// resume. tls_transport.cpp makes connections of it.

#include "io/tls.hpp"

#include <aio/detail/io/alpn.hpp>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/ssl.h>

namespace aio::inline v0::detail {

template<auto Free>
struct openssl_deleter {
    template<class T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};
using ssl_ptr = std::unique_ptr<SSL, openssl_deleter<&SSL_free>>;
using ssl_ctx_ptr = std::unique_ptr<SSL_CTX, openssl_deleter<&SSL_CTX_free>>;
using ssl_session_ptr = std::unique_ptr<SSL_SESSION, openssl_deleter<&SSL_SESSION_free>>;
using x509_ptr = std::unique_ptr<X509, openssl_deleter<&X509_free>>;
using pkey_ptr = std::unique_ptr<EVP_PKEY, openssl_deleter<&EVP_PKEY_free>>;
using bio_ptr = std::unique_ptr<BIO, openssl_deleter<&BIO_free>>;

/// What a user has said of a context.
struct tls_choices {
    bool server = false;
    std::string chain, key;  // empty: none
    std::vector<std::string> trusted;
    std::string client_ca;
    std::string alpn;  // as it stands in the handshake: each name behind its length
    tls_version minimum = tls_version::v1_2;
    bool verify = true;
};

/// An SSL_CTX, and what its callbacks look at. It does not change any more: connections share it.
struct tls_setup {
    explicit tls_setup(tls_choices c) : choices(std::move(c)) {}
    tls_choices choices;
    ssl_ctx_ptr context;
    std::once_flag system_trust;  // the system's certificates are looked for when the first client begins
};
using tls_setup_ptr = std::shared_ptr<tls_setup>;

class tls_context_state final {
public:
    explicit tls_context_state(tls_choices choices) { change(std::move(choices)); }
    /// Another handle to a server's context, with protocols of its own.
    tls_context_state(tls_context_ref context, std::string protocols, alpn_list which) noexcept
        : context_(std::move(context)), protocols_(std::move(protocols)), which_(which) {}
    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    tls_choices choices() const;
    /// Makes a new setup, and forgets the sessions. Throws if that cannot be, and nothing changes then.
    void change(tls_choices choices);
    tls_setup_ptr setup() const;
    /// The protocols that a server chooses from: the user's, or those of this handle.
    std::string_view protocols(const tls_setup& setup) const noexcept {
        const bool of_the_handle = which_ == alpn_list::of_the_handle || setup.choices.alpn.empty();
        return context_ && of_the_handle ? protocols_ : setup.choices.alpn;
    }

    /// Takes a session that can be resumed with that peer. One of TLS 1.3 is good for one connection.
    ssl_session_ptr take_session(const tls_setup_ptr& setup, const std::string& peer) noexcept;
    /// Keeps a session, unless the context has changed since. Owned by the context if that gives true.
    bool keep_session(const tls_setup_ptr& setup, const std::string& peer, SSL_SESSION* session) noexcept;

private:
    struct kept {
        std::string peer;
        ssl_session_ptr session;
    };
    const tls_context_ref context_;  // null, if this is no other handle
    const std::string protocols_;
    const alpn_list which_ = alpn_list::of_the_context_first;
    mutable std::mutex mutex_;  // for what follows
    tls_setup_ptr setup_;
    std::list<kept> sessions_;  // the newest one first
    std::atomic<std::uint32_t> references_ = 0;
};

/// The library's own objects that hang on an SSL: tls_transport.cpp sets one, and the callbacks get it back.
class tls_callbacks {
public:
    virtual std::string_view protocols() const noexcept = 0;
    /// The certificate of the peer was not accepted.
    virtual void certificate_refused(X509_STORE_CTX* store) noexcept = 0;
    /// True if the session was kept.
    virtual bool new_session(SSL_SESSION* session) noexcept = 0;

protected:
    ~tls_callbacks() = default;
};
void set_callbacks(SSL* ssl, tls_callbacks* callbacks) noexcept;

/// What OpenSSL says of the first error in this thread's queue, which is empty then. ENOMEM in error if memory was
/// missing.
tls_fault take_openssl_error() noexcept;
/// Why a certificate was refused, in a sentence.
std::string why_refused(X509_STORE_CTX* store, const std::string& wanted_name);
std::string subject_of(const X509* certificate);

}  // namespace aio::inline v0::detail
