// Log-in by a .creds file. See credentials.hpp.

#include "jetstream/credentials.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <system_error>

#if defined(AIO_TLS)
#include <openssl/evp.h>
#endif

namespace aio::inline v0::detail {
namespace {

std::string read_whole(const std::string& path) {
    struct closer {
        void operator()(std::FILE* f) const noexcept { std::fclose(f); }
    };
    const std::unique_ptr<std::FILE, closer> file(std::fopen(path.c_str(), "re"));
    if (!file) throw std::system_error(errno, std::generic_category(), "jetstream::connect: credentials " + path);
    std::string text;
    std::array<char, 4096> block{};
    while (const std::size_t n = std::fread(block.data(), 1, block.size(), file.get())) text.append(block.data(), n);
    if (std::ferror(file.get())) {
        throw std::system_error(EIO, std::generic_category(), "jetstream::connect: credentials " + path);
    }
    return text;
}

/// The line behind the one that begins with "-----BEGIN <what>"; empty if there is none.
std::string section(std::string_view text, std::string_view what) {
    const std::size_t begin = text.find("-----BEGIN " + std::string(what));
    if (begin == std::string_view::npos) return {};
    std::size_t at = text.find('\n', begin);
    while (at != std::string_view::npos && at + 1 < text.size()) {
        const std::size_t end = text.find('\n', at + 1);
        std::string_view line = text.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
        if (line.starts_with("---")) return {};
        if (!line.empty()) return std::string(line);
        at = end;
    }
    return {};
}

}  // namespace

nats_credentials read_credentials(std::string_view path_or_text) {
    const bool is_text = path_or_text.find("-----BEGIN") != std::string_view::npos;
    const std::string text = is_text ? std::string(path_or_text) : read_whole(std::string(path_or_text));
    nats_credentials c{section(text, "NATS USER JWT"), section(text, "USER NKEY SEED")};
    if (c.jwt.empty()) throw std::invalid_argument("jetstream::connect: the credentials have no NATS USER JWT");
    if (c.seed.empty()) throw std::invalid_argument("jetstream::connect: the credentials have no USER NKEY SEED");
    return c;
}

#if defined(AIO_TLS)
namespace {

[[noreturn]] void bad_seed() {
    throw std::invalid_argument("jetstream::connect: the seed of the credentials is no seed of a user's key");
}

/// The 32 bytes of the key that a seed stands for.
std::array<unsigned char, 32> raw_seed(const std::string& seed) {
    std::string bytes;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : seed) {
        const bool letter = c >= 'A' && c <= 'Z';
        if (!letter && !(c >= '2' && c <= '7')) bad_seed();
        bits = bits << 5 | static_cast<std::uint32_t>(letter ? c - 'A' : c - '2' + 26);
        count += 5;
        if (count < 8) continue;
        count -= 8;
        bytes += static_cast<char>(bits >> count & 0xff);
    }
    // Two bytes say "a seed, of a user's key", and the last two are a checksum (CRC-16/XMODEM).
    if (bytes.size() != 36 || (static_cast<unsigned char>(bytes[0]) & 0xf8) != 18 << 3) bad_seed();
    std::uint32_t crc = 0;
    for (std::size_t i = 0; i < 34; ++i) {
        crc ^= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])) << 8;
        for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff;
    }
    const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
    if (crc != (byte(34) | byte(35) << 8)) bad_seed();
    std::array<unsigned char, 32> raw{};
    for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<unsigned char>(bytes[i + 2]);
    return raw;
}

std::string base64url(const unsigned char* data, std::size_t size) {
    static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::string text;
    std::uint32_t bits = 0;
    int count = 0;
    for (std::size_t i = 0; i < size; ++i) {
        bits = bits << 8 | data[i];
        for (count += 8; count >= 6;) {
            count -= 6;
            text += digits[bits >> count & 63];
        }
    }
    if (count > 0) text += digits[bits << (6 - count) & 63];
    return text;
}

template<auto Free>
struct freed_by {
    template<class T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};

}  // namespace

std::string sign_nonce(const std::string& seed, std::string_view nonce) {
    const std::array<unsigned char, 32> raw = raw_seed(seed);
    const std::unique_ptr<EVP_PKEY, freed_by<&EVP_PKEY_free>> key(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()));
    const std::unique_ptr<EVP_MD_CTX, freed_by<&EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
    std::array<unsigned char, 64> signature{};
    std::size_t size = signature.size();
    const auto* const data = reinterpret_cast<const unsigned char*>(nonce.data());
    if (!key || !context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), signature.data(), &size, data, nonce.size()) != 1) {
        throw std::runtime_error("jetstream::connect: OpenSSL cannot sign with Ed25519");
    }
    return base64url(signature.data(), size);
}
#else
std::string sign_nonce(const std::string&, std::string_view) {
    throw std::runtime_error("jetstream::connect: credentials need OpenSSL, without which the library was built");
}
#endif

}  // namespace aio::inline v0::detail
