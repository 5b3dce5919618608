// open_connection and open_unix_connection: the name is resolved first, then one operation tries the addresses. The
// attempts overlap ("happy eyeballs", RFC 8305), so an address family that does not work costs 250 ms and not minutes.
// TLS comes last, on the connection that was made.

#include "io/resolver.hpp"
#include "io/tls.hpp"
#include "io/transport.hpp"

#include <aio/stream.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <netinet/in.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {
namespace {

constexpr auto stagger = std::chrono::milliseconds(250);  // RFC 8305, section 5: the Connection Attempt Delay
// The pauses between attempts at a unix socket whose backlog is full: the kernel does not tell when there is room.
constexpr auto first_pause = std::chrono::milliseconds(1), longest_pause = std::chrono::milliseconds(64);

class connect_operation;

/// One address that is being tried.
struct connect_attempt {
    connect_operation* owner;
    transport_ptr connection;
    std::size_t index;  // of the address
    bool signalled = false;
    void wake_to_retry() noexcept;
};

/// What has become of an attempt: 0 if it has succeeded, EINPROGRESS if it is still under way, otherwise its errno.
int outcome_of(int fd) noexcept {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    if (error != 0) return error;
    const address peer = address_of_socket(fd, true);
    if (peer.native_size() == 0) return errno == ENOTCONN ? EINPROGRESS : errno;
    // If nobody listens on a port and the kernel chooses the same one for our end, TCP connects the socket to itself.
    return !peer.is_unix() && peer == address_of_socket(fd, false) ? ECONNREFUSED : 0;
}

/// What the options say of the connection itself. The address to connect from is none if the system chooses it.
struct socket_choices {
    std::size_t limit;
    socket_options socket;
    address from;
    int from_port;

    explicit socket_choices(const stream_options& o) : limit(o.limit), socket(o), from_port(o.local_port) {
        check_port(o.local_port);
        if (!o.local.empty()) from = address(std::string(o.local), o.local_port);
    }
    /// Readies a new socket for the address. Gives 0 or an errno.
    int prepare(int fd, const address& to) const noexcept {
        if (const int error = socket.apply(fd, to.family())) return error;
        if (to.is_unix() || (!from && from_port == 0)) return 0;
        if (from && from.family() != to.family()) return EAFNOSUPPORT;
        address own = from ? from : to;
        if (!from) own.detail_set_any(from_port);
        const int on = 1;  // the port may be that of a connection that has just ended
        if (own.port() != 0) ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        return ::bind(fd, own.native(), own.native_size()) == 0 ? 0 : errno;
    }
};

/// Connects to the first of several addresses that answers. It begins with the next address when one has failed, or has
/// not answered for 250 ms. Irrevocable: a connection that was made is given. The addresses must live until the end.
class [[nodiscard]] connect_operation final : public irrevocable<connect_operation> {
public:
    connect_operation(const std::vector<address>& where, const socket_choices& how, std::string what)
        : where_(&where), how_(&how), what_(std::move(what)), errors_(where.size()) {
        attempts_.reserve(where.size());  // io_source points to a parked attempt, so none may move
    }

    bool start() noexcept {
        for (connect_attempt& a : attempts_) {
            if (a.signalled) look_at(a);
        }
        loop_core& loop = *task_->loop();
        while (!won_ && next_ < where_->size() && (hurry_ || loop.now() >= next_start_)) {
            errors_[next_] = begin((*where_)[next_], next_);
            if (errors_[next_] == EAGAIN && (*where_)[next_].family() == AF_UNIX) {
                hurry_ = false;
                next_start_ = delay(pause_).from(loop.now());
                pause_ = std::min(2 * pause_, longest_pause);
                break;
            }
            hurry_ = errors_[next_] != 0;
            ++next_;
            next_start_ = delay(stagger).from(loop.now());
        }
        loop.disarm(timer_);
        if (won_ || (pending_ == 0 && next_ == where_->size())) {
            unpark();
            return true;
        }
        if (next_ < where_->size()) {
            timer_.owner = this;
            timer_.fire = [](timer_node& t) noexcept { static_cast<node&>(t).owner->wake_to_retry(); };
            loop.arm(timer_, next_start_);
        }
        return false;
    }
    /// Ends the attempts that are under way, so that none of them wakes the task any more.
    void unpark() noexcept {
        task_->loop()->disarm(timer_);
        for (connect_attempt& a : attempts_) {
            if (a.connection) a.connection->stop_waiting(direction::write);
        }
        attempts_.clear();
    }
    void revert() noexcept { unpark(); }
    stream_ptr finish() {
        if (!won_ && no_memory_) throw std::bad_alloc();
        if (!won_) throw_failure();
        return stream_ptr(new stream_state(std::move(won_), (*where_)[won_index_].to_string(), how_->limit));
    }
    void describe(std::string& out) const override { out += what_; }

private:
    friend struct connect_attempt;
    struct node : timer_node {
        connect_operation* owner = nullptr;
    };

    // Begins an attempt. Gives 0 if it is under way or has succeeded, otherwise its errno.
    int begin(const address& to, std::size_t index) noexcept {
        const int fd = ::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) return errno;
        int error = how_->prepare(fd, to);
        if (error == 0) error = ::connect(fd, to.native(), to.native_size()) == 0 ? 0 : errno;
        if (error != 0 && error != EINPROGRESS && error != EINTR) {
            ::close(fd);
            return error;
        }
        transport_ptr connection;
        try {
            connection = make_socket_transport(fd, to.family(), how_->socket.max_descriptors);
        } catch (const std::system_error& e) { return e.code().value(); } catch (...) {
            no_memory_ = true;
            return ENOMEM;
        }
        attempts_.push_back({this, std::move(connection), index});
        ++pending_;
        look_at(attempts_.back());
        return errors_[index];
    }

    void look_at(connect_attempt& a) noexcept {
        a.signalled = false;
        const int error = outcome_of(a.connection->descriptor());
        if (error == EINPROGRESS) {
            a.connection->wait(direction::write, to_retry(a));
            return;
        }
        --pending_;
        errors_[a.index] = error;
        if (error != 0) {
            a.connection = {};
            hurry_ = true;
        } else if (!won_) {
            won_ = std::move(a.connection);
            won_index_ = a.index;
        }
    }

    // Throws one error that names each address and what happened there (rule 152).
    [[noreturn]] void throw_failure() const {
        std::string text = what_;
        if (where_->size() == 1) {
            if (const std::string only = (*where_)[0].to_string(); what_.find(only) == std::string::npos)
                text += " (" + only + ")";
        } else {
            text += ", each address failed (";
            for (std::size_t i = 0; i < where_->size(); ++i) {
                text += (i ? "; " : "") + (*where_)[i].to_string() + ": " + std::generic_category().message(errors_[i]);
            }
            text += ")";
        }
        throw_system_error(errors_[0], text);
    }

    const std::vector<address>* where_;
    const socket_choices* how_;
    std::string what_;
    std::vector<int> errors_;
    std::vector<connect_attempt> attempts_;
    std::size_t next_ = 0;
    std::size_t pending_ = 0;
    bool no_memory_ = false;
    bool hurry_ = true;  // the next attempt begins at once: it is the first, or another one has failed
    time_point next_start_{};
    std::chrono::milliseconds pause_ = first_pause;
    node timer_;
    transport_ptr won_;
    std::size_t won_index_ = 0;  // of its address
};

void connect_attempt::wake_to_retry() noexcept {
    signalled = true;
    owner->wake_to_retry();
}

/// What the options say, kept beyond the call that they were given to.
class connect_choices {
public:
    connect_choices(const stream_options& o)
        : tls(o.tls || o.context),
          socket(o),
          timeout(o.connect_timeout),
          secure(context_of(o.context), std::string(o.server_name), o.handshake_timeout) {}
    bool tls;
    socket_choices socket;
    delay timeout;
    tls_settings secure;
};

coro<stream_ptr> connect_tcp(std::string host, int port, socket_choices how, std::string what) {
    const std::vector<address> where = co_await resolve(std::move(host), port, false);
    connect_operation connecting(where, how, std::move(what));
    co_return co_await std::move(connecting);
}

coro<stream_ptr> connect_unix(address path, socket_choices how, std::string what) {
    const std::vector<address> where(1, path);
    connect_operation connecting(where, how, std::move(what));
    co_return co_await std::move(connecting);
}

coro<stream_ptr> take_connected(descriptor socket, socket_choices how) {
    const address own = require_socket(socket, SOCK_STREAM, "open_connection");
    const address peer = address_of_socket(socket.get(), true);
    if (peer.family() == AF_UNSPEC)
        throw_system_error(errno, "open_connection: descriptor " + std::to_string(socket.get()));
    transport_ptr io = make_socket_transport(socket.release(), own.family(), how.socket.max_descriptors);
    co_return stream_ptr(new stream_state(std::move(io), peer.to_string(), how.limit));
}

// Connects within the time limit, and then begins TLS, if that is wanted.
coro<stream> connect_and_secure(coro<stream_ptr> connecting, connect_choices how, std::string host, std::string what) {
    if (how.tls) {
        if (!how.secure.context) how.secure.context = default_client_context();
        if (is_server_side(how.secure.context)) {
            throw std::invalid_argument(what + ": the context is a server's; take tls_context::client()");
        }
    }
    stream_ptr made;
    if (how.timeout) {
        std::exception_ptr late;
        try {
            made = co_await wait_for(std::move(connecting), how.timeout);
        } catch (const timeout_error&) { late = std::current_exception(); }
        if (late) throw_system_error(ETIMEDOUT, what);
    } else {
        made = co_await std::move(connecting);
    }
    if (how.tls) co_await begin_tls(made, std::move(how.secure), std::move(host));
    co_return stream(std::move(made));
}

coro<stream> connect_to(std::string host, int port, connect_choices how) {
    if (host.empty()) host = "localhost";
    std::string where = host_and_port(host, port), what = "connect to " + where;
    check_port(port);
    if (how.secure.server_name.empty()) how.secure.server_name = host;
    coro<stream_ptr> connecting = connect_tcp(std::move(host), port, how.socket, what);
    co_return co_await connect_and_secure(std::move(connecting), std::move(how), std::move(where), std::move(what));
}

coro<stream> connect_to_path(std::string path, connect_choices how) {
    const address where = unix_address(path, "open_unix_connection: the path");
    std::string host = where.to_string(), what = "connect to " + host;
    if (!how.secure.server_name.empty()) host = how.secure.server_name;
    coro<stream_ptr> connecting = connect_unix(where, how.socket, what);
    co_return co_await connect_and_secure(std::move(connecting), std::move(how), std::move(host), std::move(what));
}

}  // namespace
}  // namespace detail

coro<stream> open_connection(std::string host, int port, stream_options options) {
    return detail::connect_to(std::move(host), port, options);
}

coro<stream> open_connection(descriptor connected, stream_options options) {
    const std::string what = "open_connection: descriptor " + std::to_string(connected.get());
    detail::connect_choices how(options);
    std::string host = how.secure.server_name;
    coro<detail::stream_ptr> taking = detail::take_connected(std::move(connected), how.socket);
    return detail::connect_and_secure(std::move(taking), std::move(how), std::move(host), what);
}

coro<stream> open_unix_connection(std::string path, stream_options options) {
    return detail::connect_to_path(std::move(path), options);
}

}  // namespace aio::inline v0
