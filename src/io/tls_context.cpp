// aio::tls_context: what the user chooses becomes an SSL_CTX, at once, so that a file that is missing or wrong is told
// where it is named. A change makes a new SSL_CTX and puts it in place of the old one; connections keep theirs. That is
// all that reload() does, too.

#ifdef AIO_TLS

#include "io/tls_context.hpp"

#include <aio/detail/base/config.hpp>
#include <aio/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

namespace {

constexpr std::size_t most_sessions = 256, most_sessions_of_a_peer = 32;

[[noreturn]] void throw_configuration(const std::string& of, const tls_fault& fault) {
    tls_report(of).throw_fault("configuration", fault, EINVAL);
}
[[noreturn]] void throw_configuration(const std::string& of, std::string reason) {
    throw_configuration(of, tls_fault{EINVAL, std::move(reason)});
}

// OpenSSL cleans up at exit, when static objects that hold a context may still be there, and threads still run; so it
// is told not to.
void start_openssl() noexcept {
    static const int once = OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr);
    static_cast<void>(once);
    ERR_clear_error();
}

/// PEM text, from a file or as it was given. It may be a key, so it is wiped.
class pem_text {
public:
    explicit pem_text(const std::string& source) : name_(source) {
        if (source.find("-----BEGIN") != std::string::npos) {
            name_ = "the PEM text";
            text_ = source;
        } else {
            require_no_nul(source, "tls_context: the path");
            read(source);
        }
    }
    ~pem_text() { OPENSSL_cleanse(text_.data(), text_.size()); }
    pem_text(const pem_text&) = delete;
    pem_text& operator=(const pem_text&) = delete;
    const std::string& name() const noexcept { return name_; }
    bool has_key() const noexcept { return text_.find("PRIVATE KEY-----") != std::string::npos; }
    bio_ptr open() const {
        bio_ptr bio(BIO_new_mem_buf(text_.data(), static_cast<int>(text_.size())));
        if (!bio) throw std::bad_alloc();
        return bio;
    }

private:
    void read(const std::string& path) {
        constexpr std::size_t most = 16 << 20;
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        int error = fd < 0 ? errno : 0;
        text_.resize(64 * 1024);
        for (std::size_t size = 0; error == 0;) {
            const ssize_t n = ::read(fd, text_.data() + size, text_.size() - size);
            if (n < 0 && errno != EINTR) error = errno;
            if (n == 0) {
                text_.resize(size);
                break;
            }
            if (n < 0) continue;
            size += static_cast<std::size_t>(n);
            if (size == text_.size()) grow(size);
            if (size > most) error = EFBIG;
        }
        if (fd >= 0) ::close(fd);
        if (error != 0) throw_configuration(path, tls_fault{error, {}});
    }
    void grow(std::size_t size) {  // a string that grows by itself would leave its old bytes behind
        std::string larger(2 * size, '\0');
        std::memcpy(larger.data(), text_.data(), size);
        text_.swap(larger);
        OPENSSL_cleanse(larger.data(), larger.size());
    }
    std::string name_, text_;
};

// OpenSSL would ask on the terminal. A passphrase that is asked for is noted in *user.
int no_passphrase(char*, int, int, void* user) noexcept {
    if (user) *static_cast<bool*>(user) = true;
    return -1;
}

// Gives all certificates of the text, at least one.
std::vector<x509_ptr> certificates_of(const pem_text& pem) {
    std::vector<x509_ptr> all;
    const bio_ptr in = pem.open();
    ERR_clear_error();
    while (X509* const one = PEM_read_bio_X509(in.get(), nullptr, &no_passphrase, nullptr)) all.emplace_back(one);
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    const tls_fault fault = take_openssl_error();
    if (fault.error == ENOMEM) throw std::bad_alloc();
    if (!at_end)
        throw_configuration(
            pem.name(), "certificate " + std::to_string(all.size() + 1) + " is broken: " + fault.reason);
    if (all.empty()) throw_configuration(pem.name(), "no certificate in PEM format is in it");
    return all;
}

pkey_ptr key_of(const pem_text& pem) {
    const bio_ptr in = pem.open();
    bool encrypted = false;
    ERR_clear_error();
    pkey_ptr key(PEM_read_bio_PrivateKey(in.get(), nullptr, &no_passphrase, &encrypted));
    const tls_fault fault = take_openssl_error();
    if (key) return key;
    if (fault.error == ENOMEM) throw std::bad_alloc();
    if (encrypted) {
        throw_configuration(pem.name(), "the private key is encrypted; decrypt it, for example with openssl pkey");
    }
    throw_configuration(pem.name(),
        pem.has_key() ? "the private key is broken, or of an unknown kind" : "no private key in PEM format is in it");
}

void check(int done, const std::string& of) {
    if (done == 1) return;
    throw_configuration(of, take_openssl_error());
}

void use_certificate(SSL_CTX* context, const tls_choices& choices) {
    const pem_text chain(choices.chain), secret(choices.key);
    std::vector<x509_ptr> certificates = certificates_of(chain);
    const pkey_ptr key = key_of(secret);
    check(SSL_CTX_use_certificate(context, certificates.front().get()), chain.name());
    for (std::size_t i = 1; i < certificates.size(); ++i) {
        check(static_cast<int>(SSL_CTX_add1_chain_cert(context, certificates[i].get())), chain.name());
    }
    if (X509_check_private_key(certificates.front().get(), key.get()) != 1) {
        ERR_clear_error();
        throw_configuration(secret.name(), "the private key does not belong to the certificate in " + chain.name());
    }
    check(SSL_CTX_use_PrivateKey(context, key.get()), secret.name());
}

void trust(SSL_CTX* context, const std::string& source, bool name_to_clients) {
    const pem_text pem(source);
    for (const x509_ptr& one : certificates_of(pem)) {
        check(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), one.get()), pem.name());
        if (name_to_clients) check(SSL_CTX_add_client_CA(context, one.get()), pem.name());
    }
}

// ---- what OpenSSL calls

int callbacks_index() noexcept {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}
tls_callbacks* callbacks_of(const SSL* ssl) noexcept {
    return static_cast<tls_callbacks*>(SSL_get_ex_data(ssl, callbacks_index()));
}

int verify_callback(int accepted, X509_STORE_CTX* store) noexcept {
    if (accepted == 1) return 1;
    const void* const ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    if (tls_callbacks* const c = callbacks_of(static_cast<const SSL*>(ssl))) c->certificate_refused(store);
    return 0;
}

int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
    unsigned offered_size, void*) noexcept {
    const tls_callbacks* const c = callbacks_of(ssl);
    const std::string_view own = c->protocols();
    if (own.empty()) return SSL_TLSEXT_ERR_NOACK;
    unsigned char* found = nullptr;
    if (SSL_select_next_proto(&found, size, reinterpret_cast<const unsigned char*>(own.data()),
            static_cast<unsigned>(own.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

int keep_new_session(SSL* ssl, SSL_SESSION* session) noexcept {
    tls_callbacks* const c = callbacks_of(ssl);
    return c && c->new_session(session) ? 1 : 0;
}

// ---- making an SSL_CTX

void set_up_server(SSL_CTX* context, const tls_choices& choices) {
    SSL_CTX_set_dh_auto(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);  // tickets keep sessions at the clients
    static constexpr unsigned char name[] = "aio";
    check(SSL_CTX_set_session_id_context(context, name, sizeof name - 1), "a server");
    SSL_CTX_set_alpn_select_cb(context, &choose_protocol, nullptr);
    if (choices.client_ca.empty()) return;
    trust(context, choices.client_ca, true);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &verify_callback);
}

void set_up_client(SSL_CTX* context, const tls_choices& choices) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, &keep_new_session);
    for (const std::string& pem : choices.trusted) trust(context, pem, false);
    // What the user trusts is trusted, also if it is no root: an intermediate or the server's own certificate.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(context, choices.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, &verify_callback);
    if (choices.alpn.empty()) return;
    const auto* const names = reinterpret_cast<const unsigned char*>(choices.alpn.data());
    if (SSL_CTX_set_alpn_protos(context, names, static_cast<unsigned>(choices.alpn.size())) != 0)
        throw std::bad_alloc();
}

tls_setup_ptr make_setup(tls_choices wanted) {
    start_openssl();
    auto made = std::make_shared<tls_setup>(std::move(wanted));
    const tls_choices& choices = made->choices;
    made->context.reset(SSL_CTX_new(choices.server ? TLS_server_method() : TLS_client_method()));
    SSL_CTX* const context = made->context.get();
    if (!context) throw_configuration(choices.server ? "a server" : "a client", take_openssl_error());
    SSL_CTX_set_min_proto_version(context, choices.minimum == tls_version::v1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // Without AUTO_RETRY we see each record that brings no data, and can stop a peer that sends nothing else.
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_mode(
        context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);  // one call for a record, not one for its header and one for the rest
    SSL_CTX_set_default_passwd_cb(context, &no_passphrase);
    if (!choices.chain.empty()) use_certificate(context, choices);
    choices.server ? set_up_server(context, choices) : set_up_client(context, choices);
    return made;
}

}  // namespace

void set_callbacks(SSL* ssl, tls_callbacks* callbacks) noexcept { SSL_set_ex_data(ssl, callbacks_index(), callbacks); }

// ---- the state

void references_of<tls_context_state>::retain(tls_context_state& state) noexcept { state.retain(); }
void references_of<tls_context_state>::release(tls_context_state& state) noexcept { state.release(); }

tls_choices tls_context_state::choices() const { return setup()->choices; }

tls_setup_ptr tls_context_state::setup() const {
    if (context_) return context_->setup();
    const std::lock_guard guard(mutex_);
    return setup_;
}

void tls_context_state::change(tls_choices choices) {
    tls_setup_ptr made = make_setup(std::move(choices));
    std::list<kept> forgotten;
    const std::lock_guard guard(mutex_);
    setup_.swap(made);
    forgotten.swap(sessions_);
}

ssl_session_ptr tls_context_state::take_session(const tls_setup_ptr& setup, const std::string& peer) noexcept {
    const std::lock_guard guard(mutex_);
    if (setup != setup_) return nullptr;
    const long now = static_cast<long>(std::time(nullptr));
    for (auto i = sessions_.begin(); i != sessions_.end();) {
        SSL_SESSION* const session = i->session.get();
        const bool usable = SSL_SESSION_is_resumable(session) == 1 &&
            now - SSL_SESSION_get_time(session) < SSL_SESSION_get_timeout(session);
        if (usable && i->peer != peer) {
            ++i;
        } else if (!usable) {
            i = sessions_.erase(i);
        } else if (SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION) {  // RFC 8446, appendix C.4
            ssl_session_ptr taken = std::move(i->session);
            sessions_.erase(i);
            return taken;
        } else {
            SSL_SESSION_up_ref(session);
            return ssl_session_ptr(session);
        }
    }
    return nullptr;
}

bool tls_context_state::keep_session(
    const tls_setup_ptr& setup, const std::string& peer, SSL_SESSION* session) noexcept {
    const std::lock_guard guard(mutex_);
    if (setup != setup_) return false;
    const std::size_t most = SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION ? most_sessions_of_a_peer : 1;
    try {
        sessions_.push_front({peer, nullptr});
    } catch (...) { return false; }
    sessions_.front().session.reset(session);
    std::size_t of_peer = 0;
    for (auto i = sessions_.begin(); i != sessions_.end();) {
        i = i->peer == peer && ++of_peer > most ? sessions_.erase(i) : std::next(i);
    }
    if (sessions_.size() > most_sessions) sessions_.pop_back();
    return true;
}

tls_context_ref default_client_context() {
    // It is never freed: threads may use it while the process exits.
    static auto* const context = new tls_context(tls_context::client());
    return context->detail_state();
}

bool is_server_side(const tls_context_ref& context) noexcept { return context->setup()->choices.server; }

tls_context_ref with_protocols(tls_context_ref context, std::string protocols, alpn_list which) {
    return tls_context_ref(new tls_context_state(std::move(context), std::move(protocols), which));
}

namespace {

tls_choices choices_of(const tls_context_ref& state, const char* function, std::optional<bool> server) {
    if (!state) throw_logic_error("this tls_context is empty: it was default-constructed or moved from");
    tls_choices choices = state->choices();
    if (server && choices.server != *server) {
        throw_logic_error(std::string("tls_context::") + function +
            (choices.server ? " is for a client's context, and this is a server's"
                            : " is for a server's context, and this is a client's"));
    }
    return choices;
}

}  // namespace
}  // namespace detail

// ---- tls_context

tls_context::tls_context(detail::tls_context_ref state) noexcept : state_(std::move(state)) {}

tls_context tls_context::client() { return tls_context(detail::tls_context_ref(new detail::tls_context_state({}))); }

tls_context tls_context::server(std::string chain_pem, std::string key_pem) {
    detail::tls_choices choices;
    choices.server = true;
    choices.chain = std::move(chain_pem);
    choices.key = std::move(key_pem);
    if (choices.chain.empty() || choices.key.empty()) {
        throw std::invalid_argument("tls_context::server: the certificate or the key is empty");
    }
    return tls_context(detail::tls_context_ref(new detail::tls_context_state(std::move(choices))));
}

const detail::tls_context_ref& tls_context::detail_state() const {
    if (!state_) detail::throw_logic_error("this tls_context is empty: it was default-constructed or moved from");
    return state_;
}

tls_context& tls_context::trust_file(std::string pem) {
    detail::tls_choices choices = detail::choices_of(state_, "trust_file", false);
    choices.trusted.push_back(std::move(pem));
    state_->change(std::move(choices));
    return *this;
}

tls_context& tls_context::certificate(std::string chain_pem, std::string key_pem) {
    detail::tls_choices choices = detail::choices_of(state_, "certificate", std::nullopt);
    if (chain_pem.empty() || key_pem.empty()) {
        throw std::invalid_argument("tls_context::certificate: the certificate or the key is empty");
    }
    choices.chain = std::move(chain_pem);
    choices.key = std::move(key_pem);
    state_->change(std::move(choices));
    return *this;
}

void tls_context::add_protocol(std::string& list, std::string_view name) {
    if (name.empty() || name.size() > 255) {
        throw std::invalid_argument(
            "tls_context::alpn: a protocol's name has 1 to 255 bytes, and this one " + std::to_string(name.size()));
    }
    list += static_cast<char>(name.size());
    list += name;
}

tls_context& tls_context::set_alpn(std::string list) {
    detail::tls_choices choices = detail::choices_of(state_, "alpn", std::nullopt);
    if (list.size() > 65535) throw std::invalid_argument("tls_context::alpn: the names are too long together");
    choices.alpn = std::move(list);
    state_->change(std::move(choices));
    return *this;
}

tls_context& tls_context::minimum_version(tls_version version) {
    detail::tls_choices choices = detail::choices_of(state_, "minimum_version", std::nullopt);
    choices.minimum = version;
    state_->change(std::move(choices));
    return *this;
}

tls_context& tls_context::verify(bool on) {
    detail::tls_choices choices = detail::choices_of(state_, "verify", false);
    choices.verify = on;
    state_->change(std::move(choices));
    return *this;
}

tls_context& tls_context::request_client_certificate(std::string ca_pem) {
    detail::tls_choices choices = detail::choices_of(state_, "request_client_certificate", true);
    if (ca_pem.empty())
        throw std::invalid_argument("tls_context::request_client_certificate: no path or text was given");
    choices.client_ca = std::move(ca_pem);
    state_->change(std::move(choices));
    return *this;
}

void tls_context::reload() {
    detail::tls_choices choices = detail::choices_of(state_, "reload", std::nullopt);
    state_->change(std::move(choices));
}

}  // namespace aio::inline v0

#endif
