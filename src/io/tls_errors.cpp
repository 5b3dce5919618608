// How the errors of OpenSSL, and its checks of certificates, become sentences.

#ifdef AIO_TLS

#include "io/tls_context.hpp"

#include <cerrno>
#include <ctime>
#include <new>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

namespace aio::inline v0::detail {

namespace {

std::string alert_text(int alert) {
    switch (alert) {
        case SSL_AD_CERTIFICATE_REQUIRED: return "a certificate is required";
        case SSL_AD_MISSING_EXTENSION: return "an extension is missing";
        case SSL_AD_NO_APPLICATION_PROTOCOL: return "no application protocol in common";
        case SSL_AD_UNKNOWN_CA: return "the certificate's issuer is unknown to it";
        default: return SSL_alert_desc_string_long(alert);
    }
}

std::string ssl_reason(unsigned long error) {
    const int reason = ERR_GET_REASON(error);
    if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
        if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
            return "the peer refuses: " + alert_text(reason - SSL_AD_REASON_OFFSET);
        }
        switch (reason) {
            case SSL_R_HTTP_REQUEST:
            case SSL_R_HTTPS_PROXY_REQUEST: return "the peer speaks plain HTTP, not TLS";
            case SSL_R_WRONG_VERSION_NUMBER: return "the peer does not speak TLS: what it has sent is no TLS record";
            case SSL_R_UNSUPPORTED_PROTOCOL: return "the peers have no version of TLS in common";
            case SSL_R_NO_SHARED_CIPHER: return "the peers have no cipher in common";
            case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "the peer has shown no certificate";
            case SSL_R_NO_APPLICATION_PROTOCOL: return "the peers have no application protocol in common";
            default: break;
        }
    }
    const char* const text = ERR_reason_error_string(error);
    return text ? text : "error " + std::to_string(error) + " of OpenSSL";
}

}  // namespace

tls_fault take_openssl_error() noexcept {
    tls_fault fault{EPROTO, {}};
    const unsigned long first = ERR_peek_error();
    while (const unsigned long error = ERR_get_error()) {
        if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE) fault.error = ENOMEM;
    }
    if (fault.error == ENOMEM) return fault;
    if (ERR_SYSTEM_ERROR(first)) {
        fault.error = ERR_GET_REASON(first);
        return fault;
    }
    try {
        if (first != 0) fault.reason = ssl_reason(first);
    } catch (...) { fault.error = ENOMEM; }
    return fault;
}

std::string subject_of(const X509* certificate) {
    if (!certificate) return {};
    const bio_ptr out(BIO_new(BIO_s_mem()));
    if (!out) throw std::bad_alloc();
    const auto flags = XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB);
    X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, flags);
    char* text = nullptr;
    const long size = BIO_get_mem_data(out.get(), &text);
    return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

namespace {

std::string issuer_of(const X509* certificate) {
    char text[256];
    const X509_NAME* const name = X509_get_issuer_name(certificate);
    if (X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof text) > 0) return text;
    X509_NAME_oneline(name, text, sizeof text);
    return text;
}

std::string date_of(const ASN1_TIME* time) {
    std::tm t{};
    if (!time || ASN1_TIME_to_tm(time, &t) != 1) return "an unknown date";
    char text[32];
    return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d", &t));
}

// The names that a certificate is for: "a.example, *.b.example, 127.0.0.1", at most a few of them.
std::string names_of(const X509* certificate) {
    constexpr int most = 5;
    std::string all;
    const std::unique_ptr<GENERAL_NAMES, openssl_deleter<&GENERAL_NAMES_free>> names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    const int count = names ? sk_GENERAL_NAME_num(names.get()) : 0;
    int told = 0;
    for (int i = 0; i < count; ++i) {
        const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
        std::string text;
        if (name->type == GEN_DNS) {
            text.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
        } else if (name->type == GEN_IPADD) {
            char address[INET6_ADDRSTRLEN] = "";
            const int family = ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;
            ::inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), address, sizeof address);
            text = address;
        }
        if (text.empty()) continue;
        if (told++ == most) return all + " and others";
        all += (all.empty() ? "" : ", ") + text;
    }
    if (all.empty()) all = subject_of(certificate);
    return all.empty() ? "nobody" : all;
}

}  // namespace

std::string why_refused(X509_STORE_CTX* store, const std::string& wanted_name) {
    const X509* const certificate = X509_STORE_CTX_get_current_cert(store);
    const int depth = X509_STORE_CTX_get_error_depth(store);
    const int error = X509_STORE_CTX_get_error(store);
    // The peer's own certificate needs no name; one further up in the chain does.
    std::string which = "certificate";
    if (certificate && depth > 0) which += " \"" + subject_of(certificate) + "\" of the chain";
    switch (certificate ? error : X509_V_ERR_UNSPECIFIED) {
        case X509_V_ERR_CERT_HAS_EXPIRED: return which + " has expired on " + date_of(X509_get0_notAfter(certificate));
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return which + " is not valid before " + date_of(X509_get0_notBefore(certificate));
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
            return which + " is for " + names_of(certificate) + ", not for " + wanted_name;
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return which + " is self-signed, and not trusted here";
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
            return "certificate chain ends at \"" + issuer_of(certificate) + "\", which is not trusted here";
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            return which + " is signed by \"" + issuer_of(certificate) +
                "\", whose certificate is neither trusted here nor sent by the peer";
        default: return which + " was refused: " + X509_verify_cert_error_string(error);
    }
}

}  // namespace aio::inline v0::detail

#endif
