#pragma once
// Certificates for tests, made on the spot. All of it is PEM text.
//
//     const aio_test::authority root("a root of the tests");
//     const aio_test::identity server = root.issue({.name = "localhost", .alternatives =
//     "DNS:localhost,IP:127.0.0.1"}); aio::tls_context own = aio::tls_context::server(server.chain, server.key);
//     aio::tls_context client = aio::tls_context::client().trust_file(root.pem());

#include "aio_test.hpp"

#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace aio_test {

struct identity {
    std::string chain;  // its own certificate, and those of the intermediate authorities
    std::string key;
};

/// alternatives: as in openssl.cnf; empty: none. The dates are GeneralizedTime.
struct certificate_wish {
    const char* name = "localhost";
    const char* alternatives = "DNS:localhost,IP:127.0.0.1,IP:::1";
    const char* not_before = "20200101000000Z";
    const char* not_after = "20990101000000Z";
    bool authority = false;
};

class authority {
public:
    /// A root.
    explicit authority(const char* name) : key_(make_key()) {
        certificate_ = make(*key_, {.name = name, .alternatives = "", .authority = true}, nullptr);
    }
    /// One that another has signed.
    authority(const char* name, const authority& above) : key_(make_key()) {
        certificate_ = make(*key_, {.name = name, .alternatives = "", .authority = true}, &above);
        chain_ = pem() + above.chain_;
    }
    std::string pem() const {
        return text([&](BIO* out) { PEM_write_bio_X509(out, certificate_.get()); });
    }
    identity issue(const certificate_wish& wish) const {
        const auto key = make_key();
        const auto certificate = make(*key, wish, this);
        return {text([&](BIO* out) { PEM_write_bio_X509(out, certificate.get()); }) + chain_, key_text(*key)};
    }
    /// A certificate that is its own issuer.
    static identity self_signed(const certificate_wish& wish) {
        const auto key = make_key();
        const auto certificate = make(*key, wish, nullptr);
        return {text([&](BIO* out) { PEM_write_bio_X509(out, certificate.get()); }), key_text(*key)};
    }
    static std::string encrypted_key(const char* passphrase) {
        const auto key = make_key();
        return text([&](BIO* out) {
            PEM_write_bio_PrivateKey(
                out, key.get(), EVP_aes_256_cbc(), nullptr, 0, nullptr, const_cast<char*>(passphrase));
        });
    }

private:
    struct free_key {
        void operator()(EVP_PKEY* k) const noexcept { EVP_PKEY_free(k); }
    };
    struct free_certificate {
        void operator()(X509* c) const noexcept { X509_free(c); }
    };
    using key_ptr = std::unique_ptr<EVP_PKEY, free_key>;
    using certificate_ptr = std::unique_ptr<X509, free_certificate>;

    static key_ptr make_key() {
        key_ptr key(EVP_EC_gen("P-256"));
        require(key != nullptr, "a key");
        return key;
    }
    template<class Write>
    static std::string text(Write write) {
        BIO* const out = BIO_new(BIO_s_mem());
        write(out);
        char* data = nullptr;
        const long size = BIO_get_mem_data(out, &data);
        std::string all(data, static_cast<std::size_t>(size));
        BIO_free(out);
        return all;
    }
    static std::string key_text(EVP_PKEY& key) {
        return text([&](BIO* out) { PEM_write_bio_PrivateKey(out, &key, nullptr, nullptr, 0, nullptr, nullptr); });
    }
    static void extend(X509* certificate, X509* issuer, int what, const char* value) {
        X509V3_CTX context;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
        X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, what, value);
        require(extension != nullptr, value);
        X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
    }
    // issuer: null if it signs itself.
    static certificate_ptr make(EVP_PKEY& key, const certificate_wish& wish, const authority* issuer) {
        certificate_ptr made(X509_new());
        X509* const c = made.get();
        X509_set_version(c, 2);
        static long serial = 1;
        ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
        ASN1_TIME_set_string_X509(X509_getm_notBefore(c), wish.not_before);
        ASN1_TIME_set_string_X509(X509_getm_notAfter(c), wish.not_after);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
            reinterpret_cast<const unsigned char*>(wish.name), -1, -1, 0);
        X509* const by = issuer ? issuer->certificate_.get() : c;
        X509_set_issuer_name(c, X509_get_subject_name(by));
        X509_set_pubkey(c, &key);
        extend(c, by, NID_subject_key_identifier, "hash");
        extend(c, by, NID_basic_constraints, wish.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        extend(c, by, NID_authority_key_identifier, "keyid:always");
        extend(c, by, NID_key_usage, wish.authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
        if (*wish.alternatives) extend(c, by, NID_subject_alt_name, wish.alternatives);
        require(X509_sign(c, issuer ? issuer->key_.get() : &key, EVP_sha256()) > 0, "a signature");
        return made;
    }

    key_ptr key_;
    certificate_ptr certificate_;
    std::string chain_;  // of an intermediate authority: its own certificate, and what is above, without the root
};

}  // namespace aio_test
