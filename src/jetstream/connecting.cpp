// How a connection is made, and made anew when it is lost: see client.hpp.
//
// One task runs for as long as the connection lives. It serves a server until that is lost, then tries one server after
// the other. The first connection is made by who opens it, who gets its errors.

#include "jetstream/client.hpp"
#include "jetstream/credentials.hpp"
#include "jetstream/json.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace aio::inline v0::detail {

using jetstream::connection_status;

nats_settings::nats_settings(const jetstream::connect_options& o)
    : numbers(o), name(o.name), user(o.user), password(o.password), token(o.token) {
    if (!o.credentials.empty()) {
        nats_credentials c = read_credentials(o.credentials);
        jwt = std::move(c.jwt);
        seed = std::move(c.seed);
    }
    if (o.context) context = *o.context;
    numbers.name = numbers.user = numbers.password = numbers.token = numbers.credentials = {};
    numbers.context = nullptr;
}

namespace {

/// A server has said -ERR in place of accepting the log-in. Other servers may still accept it.
struct refused_log_in : std::runtime_error {
    using runtime_error::runtime_error;
};

std::string what_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) { return e.what(); }
}

std::string attempts(int count) { return count == 1 ? "1 attempt" : std::to_string(count) + " attempts"; }

std::string without_end(std::string line) {
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    return line;
}

}  // namespace

std::string nats_client::connect_line(const nats_server& server, const std::string& nonce) const {
    json_writer hello;
    hello.add("verbose", false).add("pedantic", false).add("lang", "c++").add("version", "aiocxx").add("protocol", 1);
    hello.add("headers", true).add("no_responders", true).add("echo", settings_.numbers.echo);
    if (!settings_.name.empty()) hello.add("name", settings_.name);
    if (!settings_.jwt.empty()) hello.add("jwt", settings_.jwt).add("sig", sign_nonce(settings_.seed, nonce));
    const bool own = !server.user.empty() || !server.token.empty();
    const std::string& user = own ? server.user : settings_.user;
    const std::string& token = own ? server.token : settings_.token;
    if (!user.empty()) hello.add("user", user).add("pass", own ? server.password : settings_.password);
    if (!token.empty()) hello.add("auth_token", token);
    return "CONNECT " + hello.text() + "\r\nPING\r\n";
}

nats_dialer& this_threads_dialer() noexcept {
    static thread_local nats_dialer dialer;
    return dialer;
}

coro<stream> nats_client::dial(const nats_server& server) {
    if (const nats_dialer& dialer = this_threads_dialer()) co_return co_await dialer(server);
    stream s = co_await open_connection(server.host, server.port, {.limit = std::size_t(4) * 1024 * 1024});
    co_return s;
}

coro<stream> nats_client::log_in(const nats_server& server) {
    stream s = co_await dial(server);
    const std::string first = without_end(co_await s.read_line());
    const std::string_view said(first);
    const json_view info = json_view::of(said.starts_with("INFO ") ? said.substr(5) : std::string_view());
    if (!info.is_object()) {
        throw std::system_error(EPROTO, std::generic_category(), server.address() + " does not speak NATS");
    }
    const bool tls_required = info["tls_required"].boolean(false);
    if (server.tls || settings_.context || tls_required) {
        if (!tls_required && !info["tls_available"].boolean(false)) {
            throw std::system_error(EPROTO, std::generic_category(), server.address() + " speaks no TLS");
        }
        const tls_context context = settings_.context ? settings_.context : tls_context::client();
        co_await s.start_tls(context, server.host);
    }
    const std::string hello = connect_line(server, info["nonce"].string());
    co_await s.write(std::string_view(hello));
    for (;;) {
        const std::string line = without_end(co_await s.read_line());
        if (line.empty()) {
            throw std::system_error(
                ECONNRESET, std::generic_category(), server.address() + " has closed the connection at the log-in");
        }
        if (line.starts_with("-ERR")) throw refused_log_in(server.address() + " refuses the log-in: " + line.substr(5));
        if (line.starts_with("PONG")) break;
        if (line.starts_with("INFO ")) on_info(std::string_view(line).substr(5));
    }
    on_info(said.substr(5));
    co_return s;
}

/// Connects to this server, or throws.
coro<> nats_client::attempt(nats_server server) {
    stream s;
    const delay limit = settings_.numbers.connect_timeout;
    bool late = false;
    try {
        s = co_await wait_for(log_in(server), limit);
    } catch (const timeout_error&) { late = true; }
    if (late) {
        throw std::system_error(
            ETIMEDOUT, std::generic_category(), server.address() + " has not answered within the connect_timeout");
    }
    began(std::move(s));
}

/// Tries each server once, from current_ on. Throws what went wrong with all of them, and leaves it in reasons.
coro<> nats_client::try_all(bool first, std::string& reasons) {
    reasons.clear();
    std::exception_ptr refusal, failure;
    const std::size_t count = servers_.size();
    for (std::size_t i = 0; i < count; ++i) {
        std::exception_ptr failed;
        try {
            co_await attempt(servers_[current_]);
            co_return;
        } catch (const refused_log_in&) { refusal = failed = std::current_exception(); } catch (const std::exception&) {
            failure = failed = std::current_exception();
        }
        reasons += (reasons.empty() ? "" : "; ") + what_of(failed);
        current_ = (current_ + 1) % servers_.size();
    }
    if (first && refusal) throw jetstream::error(reasons);
    if (count == 1 && first) std::rethrow_exception(failure);
    std::error_code code(ECONNREFUSED, std::generic_category());
    if (failure) {
        try {
            std::rethrow_exception(failure);
        } catch (const std::system_error& e) { code = e.code(); } catch (const std::exception&) {
            // any other failure counts as a refusal
        }
    }
    throw std::system_error(code, "jetstream: no server can be reached: " + reasons);
}

/// Tries again and again. False if it has given up, and then why has the reason.
coro<bool> nats_client::reconnect(std::string& why) {
    delay pause = settings_.numbers.reconnect_wait;
    for (int round = 1;; ++round) {
        try {
            co_await try_all(false, why);
            co_return true;
        } catch (const std::exception& e) {
            if (why.empty()) why = e.what();
        }
        tell(why);
        if (settings_.numbers.max_attempts > 0 && round >= settings_.numbers.max_attempts) {
            why = "given up after " + attempts(round) + ": " + why;
            co_return false;
        }
        const auto half = std::max<std::int64_t>(1, pause.has_value() ? pause.value().count() / 2 : 1);
        const auto more = static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(half)));
        co_await sleep(std::chrono::nanoseconds(half + more));
        const delay most = settings_.numbers.max_reconnect_wait;
        std::chrono::nanoseconds next(half * 4);
        if (most.has_value()) next = std::min(next, std::chrono::nanoseconds(most.value()));
        pause = next;
    }
}

/// A connection has been made: subscribes to everything anew, before what waits is sent. Only messages wait: see
/// lost().
void nats_client::began(stream s) {
    std::string waiting = std::move(out_);
    out_.clear();
    std::vector<nats_sink*> all;
    try {
        all.reserve(sinks_.size());
        for (const auto& [sid, sink] : sinks_) {
            all.push_back(sink);
            sink->subscribing();
            subscribe_line(*sink);
        }
        out_ += waiting;
    } catch (...) {
        out_ = std::move(waiting);
        throw;
    }
    stream_ = std::move(s);
    parser_.clear();
    silent_pings_ = 0;
    leaving_ = last_write_ = hold_ = false;
    leave_.clear();
    const bool again = status_ == connection_status::reconnecting;
    status_ = connection_status::connected;
    if (again) ++numbers_.reconnects;
    sendable_.set();
    usable_.set();
    for (nats_sink* sink : all) {
        if (again) sink->reconnected();
    }
    tell({});
}

void nats_client::lost(std::string_view why) noexcept {
    if (is_closed()) return;
    std::string from;
    try {
        from = server();
    } catch (const std::bad_alloc&) {
        // the event does not name it
    }
    status_ = connection_status::reconnecting;
    usable_.clear();
    if (stream_) stream_.abort();
    stream_ = stream();
    writing_.clear();  // it may have arrived, or not: it must not arrive twice
    keep_messages(out_);
    pings_.clear();
    try {
        events_.send(jetstream::connection_event{status_, std::move(from), std::string(why)});
    } catch (...) {
        // an event less
    }
    settle_all(nats_reply::kind::lost);
    current_ = (current_ + 1) % servers_.size();
}

void nats_client::end(std::string_view why) noexcept {
    if (is_closed()) return;
    status_ = connection_status::closed;
    try {
        why_closed_ = why;
    } catch (const std::bad_alloc&) {
        // then the reason is not told
    }
    if (stream_) stream_.abort();
    stream_ = stream();
    timer_.cancel();
    timer_at_ = time_point::max();
    usable_.set();
    room_.set();
    settle_all(nats_reply::kind::closed);
    while (!sinks_.empty()) {
        nats_sink* const sink = sinks_.begin()->second;
        sinks_.erase(sinks_.begin());
        sink->closed();
    }
    tell(why);
    if (!events_.closed()) events_.close();
}

coro<> nats_client::run(std::shared_ptr<nats_client> self) {
    struct at_end {
        nats_client& client;
        std::string why;
        ~at_end() { client.end(why.empty() ? "its task has ended" : std::string_view(why)); }
    } ending{*self, {}};
    for (;;) {
        std::string why;
        try {
            co_await serve();
        } catch (const std::exception& e) { why = e.what(); }
        lost(why);
        ending.why = why;
        if (is_closed()) co_return;
        if (!settings_.numbers.reconnect) co_return;
        try {
            co_await reconnect(ending.why);
        } catch (const std::exception& e) { ending.why = e.what(); }
        if (status_ != connection_status::connected) co_return;
    }
}

coro<> nats_client::open() {
    if (run_ || is_closed()) throw_logic_error("a jetstream::connector is entered once");
    loop_ = local().loop;
    try {
        std::string why;
        if (!settings_.numbers.retry_first) {
            co_await try_all(true, why);
        } else if (const bool connected = co_await reconnect(why); !connected) {
            throw jetstream::error(why);
        }
        run_ = create_task(run(shared_from_this()), {.name = "jetstream::connection"});
    } catch (...) {
        end("it was never made");
        throw;
    }
    run_.detail_state()->set_internal();
    run_.add_done_callback([weak = weak_from_this()] {
        if (const std::shared_ptr<nats_client> self = weak.lock()) self->stopped_.set();
    });
}

coro<> nats_client::close() {
    if (closing_) co_return;
    std::exception_ptr cancelled;
    if (status_ == connection_status::connected) {  // a PONG says that all that was sent before has arrived
        try {
            const delay limit = settings_.numbers.request_timeout;
            nats_answer arrived(*this, limit.has_value() ? limit : delay(std::chrono::seconds(5)));
            send_ping(&arrived);
            static_cast<void>(co_await arrived);
        } catch (const cancelled_error&) { cancelled = std::current_exception(); } catch (const std::exception&) {
            // then it is closed without
        }
    }
    closing_ = true;
    end("it was closed");
    if (run_) {
        run_.cancel();
        while (!stopped_.is_set()) {
            try {
                co_await stopped_.wait();
            } catch (const cancelled_error&) { cancelled = std::current_exception(); }
        }
    }
    if (cancelled) std::rethrow_exception(cancelled);
}

}  // namespace aio::inline v0::detail
