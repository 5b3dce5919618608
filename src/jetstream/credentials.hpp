#pragma once
// Log-in by a .creds file: a JWT, and the seed of an Ed25519 key that signs what the server asks (NATS's nkeys).

#include <string>
#include <string_view>

namespace aio::inline v0::detail {

struct nats_credentials {
    std::string jwt;
    std::string seed;  // "SU...": base32 of the prefix, the 32 bytes of the seed and a checksum
};

/// Reads a file, or the text itself if it has "-----BEGIN" in it. Blocks while it reads. Throws std::system_error for
/// a file that cannot be read, std::invalid_argument for one that has no JWT or no seed in it.
nats_credentials read_credentials(std::string_view path_or_text);
/// The signature of nonce, in base64url. Throws std::invalid_argument for a seed that is none, and std::runtime_error
/// where the library was built without OpenSSL.
std::string sign_nonce(const std::string& seed, std::string_view nonce);

}  // namespace aio::inline v0::detail
