// The texts that users give to a connection, read and checked: URLs and subjects. See servers.hpp.

#include "jetstream/servers.hpp"

#include <aio/detail/base/percent.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <random>
#include <stdexcept>
#include <system_error>

#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

/// A server closes a connection on which a line is longer than 4096 bytes. The line of a message has a second subject,
/// for the answer, and two numbers.
constexpr std::size_t longest_subject = 1900;

[[noreturn]] void refuse(const std::string& why) {
    throw std::invalid_argument("jetstream::connect: " + why + "; a URL is nats://user:password@host:4222, or tls://");
}

nats_server parse_server(std::string_view url) {
    nats_server s;
    const std::size_t scheme_end = url.find("://");
    if (scheme_end != std::string_view::npos) {
        const std::string_view scheme = url.substr(0, scheme_end);
        if (scheme != "nats" && scheme != "tls") { refuse("the scheme of a URL is neither nats nor tls"); }
        s.tls = scheme == "tls";
        url.remove_prefix(scheme_end + 3);
    }
    const std::size_t at = url.rfind('@');
    if (at != std::string_view::npos) {
        const std::string_view who = url.substr(0, at);
        const std::size_t colon = who.find(':');
        if (colon == std::string_view::npos) {
            s.token = percent_decoded(who);
        } else {
            s.user = percent_decoded(who.substr(0, colon));
            s.password = percent_decoded(who.substr(colon + 1));
        }
        url.remove_prefix(at + 1);
    }
    if (!url.empty() && url.back() == '/') url.remove_suffix(1);
    std::string_view port;
    if (!url.empty() && url.front() == '[') {  // an address of IPv6
        const std::size_t end = url.find(']');
        if (end == std::string_view::npos) refuse("an IPv6 address has no ]");
        s.host = url.substr(1, end - 1);
        port = url.substr(end + 1);
    } else {
        const std::size_t colon = url.find(':');
        s.host = url.substr(0, colon);
        if (colon != std::string_view::npos) port = url.substr(colon);
    }
    if (s.host.empty() || s.host.find_first_of(" \t\r\n/?#") != std::string::npos) refuse("a URL names no host");
    if (port.empty()) return s;
    port.remove_prefix(1);
    const std::from_chars_result read = std::from_chars(port.data(), port.data() + port.size(), s.port);
    if (read.ec != std::errc() || read.ptr != port.data() + port.size() || s.port == 0) {
        refuse("the port of " + s.host + " is no number from 1 to 65535");
    }
    return s;
}

/// Seeded anew in a forked child: its connections must not have the identities of its parent's.
std::mt19937_64& generator() {
    static thread_local std::mt19937_64 numbers;
    static thread_local pid_t seeded_in = 0;
    if (const pid_t here = ::getpid(); seeded_in != here) {
        std::random_device device;
        std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
        numbers.seed(seed);
        seeded_in = here;
    }
    return numbers;
}

}  // namespace

std::string nats_server::address() const {
    const bool v6 = host.find(':') != std::string::npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::vector<nats_server> parse_servers(std::string_view urls) {
    if (urls.find('\0') != std::string_view::npos) refuse("a URL holds a NUL byte");
    std::vector<nats_server> all;
    while (true) {
        const std::size_t comma = urls.find(',');
        std::string_view one = urls.substr(0, comma);
        while (!one.empty() && one.front() == ' ') one.remove_prefix(1);
        while (!one.empty() && one.back() == ' ') one.remove_suffix(1);
        if (one.empty()) refuse("a URL is empty");
        all.push_back(parse_server(one));
        if (comma == std::string_view::npos) return all;
        urls.remove_prefix(comma + 1);
    }
}

std::string unique_text(std::size_t n) {
    static constexpr char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    std::string text(n, '0');
    for (char& c : text) c = letters[random_below(62)];
    return text;
}

std::uint64_t random_below(std::uint64_t below) {
    return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(generator());
}

void seed_random(std::uint64_t seed) { generator().seed(seed); }

void check_subject(std::string_view subject, bool wildcards, const char* what) {
    const auto refuse_subject = [&](const char* why) {
        throw std::invalid_argument(std::string(what) + ": the subject \"" + std::string(subject) + "\" " + why);
    };
    if (subject.empty()) refuse_subject("is empty");
    if (subject.size() > longest_subject) {
        throw std::invalid_argument(std::string(what) + ": the subject is longer than " +
            std::to_string(longest_subject) + " bytes, and a server would close the connection");
    }
    if (subject.find_first_of(std::string_view(" \t\r\n\0", 5)) != std::string_view::npos) {
        throw std::invalid_argument(std::string(what) + ": the subject holds a space, a line break or a NUL byte");
    }
    for (std::string_view rest = subject;;) {
        const std::size_t dot = rest.find('.');
        const std::string_view part = rest.substr(0, dot);
        if (part.empty()) refuse_subject("has an empty part");
        if (!wildcards && (part == "*" || part == ">")) refuse_subject("has a wildcard");
        if (part == ">" && dot != std::string_view::npos) refuse_subject("has a > before its end");
        if (dot == std::string_view::npos) return;
        rest.remove_prefix(dot + 1);
    }
}

}  // namespace aio::inline v0::detail
