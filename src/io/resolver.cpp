// Resolving names. getaddrinfo blocks for as long as the name servers take, so it runs on threads of its own
// (look_ups), whose number bounds the look-ups under way. A numeric address needs no thread and is read at once.
//
// A cancel does not wait for the look-up: one that no thread has begun is withdrawn, one that runs is left to itself.

#include "io/resolver.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>

namespace aio::inline v0 {
namespace detail {
namespace {

/// The pool is never destroyed: its threads end with the process, even those that wait for a name server.
blocking_pool& resolver_pool() { return look_ups.get(); }

struct resolver_errors final : std::error_category {
    const char* name() const noexcept override { return "resolver"; }
    std::string message(int code) const override { return ::gai_strerror(code); }
};

/// Calls getaddrinfo. Gives its error (resolver_category), or errno (generic_category) in place of EAI_SYSTEM.
std::error_code look_up(const std::string& host, int port, int flags, std::vector<address>& found) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const std::string service = std::to_string(port);
    const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &list);
    if (error == EAI_SYSTEM) return {errno, std::generic_category()};
    if (error != 0) return {error, resolver_category()};
    try {
        for (const addrinfo* a = list; a; a = a->ai_next) {
            if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
                found.push_back(address::from_native(a->ai_addr, a->ai_addrlen));
        }
    } catch (...) {
        ::freeaddrinfo(list);
        throw;
    }
    ::freeaddrinfo(list);
    return {};
}

/// Lets the address families take turns (RFC 8305, section 4), so that a family that does not work costs one attempt.
void interleave_families(std::vector<address>& all) {
    if (all.size() < 3) return;
    const int first = all.front().family();
    std::vector<address> preferred, others, mixed;
    for (address& a : all) (a.family() == first ? preferred : others).push_back(a);
    for (std::size_t i = 0; i < preferred.size() || i < others.size(); ++i) {
        if (i < preferred.size()) mixed.push_back(preferred[i]);
        if (i < others.size()) mixed.push_back(others[i]);
    }
    all = std::move(mixed);
}

class resolve_operation;

/// A look-up on a thread. It belongs to its operation; one that a cancel has given up while it ran deletes itself.
struct look_up_job : blocking_job, pooled {
    std::string host;
    int port = 0;
    int flags = 0;
    std::vector<address> found;
    std::error_code error;
    bool no_memory = false;
    resolve_operation* waiter = nullptr;  // used by the loop's thread alone; null once the look-up is given up
};

/// Runs a look-up on a thread and waits for it. Revertible. Throws std::system_error, or std::bad_alloc.
class [[nodiscard]] resolve_operation final : public revertible<resolve_operation> {
public:
    explicit resolve_operation(std::unique_ptr<look_up_job> job) noexcept : job_(std::move(job)) {}

    bool start() noexcept {
        look_up_job& job = *job_;
        job.waiter = this;
        job.run = [](blocking_job& j) noexcept {
            auto& self = static_cast<look_up_job&>(j);
            try {
                self.error = look_up(self.host, self.port, self.flags, self.found);
            } catch (...) { self.no_memory = true; }
        };
        job.deliver = [](mailbox_node& node) noexcept {
            auto& self = static_cast<look_up_job&>(node);
            if (!self.waiter) {
                delete &self;
                return;
            }
            --self.waiter->task()->loop()->outstanding;
            self.waiter->wake();
        };
        job.orphaned = [](blocking_job& j) noexcept { delete static_cast<look_up_job*>(&j); };
        try {
            error_ = resolver_pool().submit_for(*task_, job);
        } catch (...) { error_ = std::current_exception(); }  // no memory for the pool itself
        return error_ != nullptr;
    }
    void unpark() noexcept {
        --task_->loop()->outstanding;
        if (resolver_pool().withdraw(*job_)) return;
        job_->waiter = nullptr;
        static_cast<void>(job_.release());
    }
    void revert() noexcept {}
    std::vector<address> finish() {
        if (error_) std::rethrow_exception(error_);
        if (job_->no_memory) throw std::bad_alloc();
        if (job_->error) throw std::system_error(job_->error, "resolve " + job_->host);
        return std::move(job_->found);
    }
    void describe(std::string& out) const override { out += "the addresses of " + (job_ ? job_->host : std::string()); }

private:
    std::unique_ptr<look_up_job> job_;
    std::exception_ptr error_;  // no thread could be started
};

}  // namespace

coro<std::vector<address>> resolve(std::string host, int port, bool passive) {
    std::vector<address> found;
    check_port(port);
    const int flags = passive ? AI_PASSIVE : 0;
    require_no_nul(host, "the host name");
    if (host.empty() && !passive) host = "localhost";
    if (look_up(host, port, flags | AI_NUMERICHOST, found)) {
        found.clear();
        auto job = std::make_unique<look_up_job>();
        job->host = host;
        job->port = port;
        job->flags = flags;
        resolve_operation operation(std::move(job));
        found = co_await std::move(operation);
    }
    if (!passive) interleave_families(found);
    co_return found;
}

}  // namespace detail

coro<std::vector<address>> resolve(std::string host, int port) { return detail::resolve(std::move(host), port, false); }

const std::error_category& resolver_category() noexcept {
    static const detail::resolver_errors category;
    return category;
}

}  // namespace aio::inline v0
