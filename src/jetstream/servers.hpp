#pragma once
// The servers of a connection: the URLs that a user gives, and those that a cluster names.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

struct nats_server {
    std::string host;
    std::uint16_t port = 4222;
    std::string user, password, token;
    bool tls = false;
    bool discovered = false;  // the cluster has named it
    std::string address() const;
};

/// Reads "nats://user:password@host:port,tls://host". Throws std::invalid_argument, which shows no secret.
std::vector<nats_server> parse_servers(std::string_view urls);

/// A text of n letters and digits that nobody else has.
std::string unique_text(std::size_t n);
/// A number from 0 to below, which must be positive.
std::uint64_t random_below(std::uint64_t below);
/// For simulations: from now on the numbers of this thread follow from the seed.
void seed_random(std::uint64_t seed);

/// Throws std::invalid_argument if subject cannot be published to, or, with wildcards, be subscribed to.
void check_subject(std::string_view subject, bool wildcards, const char* what);

}  // namespace aio::inline v0::detail
