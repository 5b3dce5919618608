// Connecting. The loop watches libpq's descriptor, and libpq reads and writes what is ready. It still blocks while it
// resolves names, so that is an errand on a thread.

#include "sql/postgres/connect.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

#include <netdb.h>
#include <sys/socket.h>

namespace aio::inline v0::sql {

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
}

std::string one_line(std::string text) {
    for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at)) {
        text.replace(at, text.find_first_not_of("\n\t ", at) - at, "; ");
    }
    return text;
}

/// Waits for the connection's descriptor, the end of its errand, its deadline, or a cancel. Whatever comes first ends
/// the wait, and the caller looks what it was. A cancel is only noted.
class io_wait final : public detail::irrevocable<io_wait> {
public:
    /// events: bits of io_entry; with 0 the descriptor is not watched.
    io_wait(opener& owner, std::uint32_t events) noexcept;
    bool await_ready() {  // begins even under a pending cancel
        begin(&detail::require_task());
        phase_ = detail::phase::parked;
        return start();
    }
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override;
    detail::cancel_reply cancel(const std::string&) noexcept override;
    void end() noexcept {
        if (!parked()) return;
        unpark();
        wake();
    }

private:
    struct timer : detail::timer_node {
        io_wait* owner = nullptr;
    };
    opener* owner_;
    std::uint32_t events_;
    std::exception_ptr error_;
    timer timer_;
    detail::fd_watch watch_;
};

io_wait::io_wait(opener& owner, std::uint32_t events) noexcept
    : owner_(&owner), events_(events), watch_([this](std::uint32_t) { end(); }) {}

bool io_wait::start() noexcept {
    try {
        if (events_ != 0) watch_.watch(PQsocket(owner_->conn_.get()), events_);
        if (const time_point until = owner_->deadline_; until != time_point::max()) {
            timer_.owner = this;
            timer_.fire = [](detail::timer_node& t) noexcept { static_cast<timer&>(t).owner->end(); };
            task_->loop()->arm(timer_, until);
        }
    } catch (...) {
        error_ = std::current_exception();
        unpark();
        phase_ = detail::phase::idle;
        return true;
    }
    owner_->wait_ = this;
    return false;
}

void io_wait::unpark() noexcept {
    watch_.stop();
    task_->loop()->disarm(timer_);
    owner_->wait_ = nullptr;
}

void io_wait::finish() {
    if (error_) std::rethrow_exception(error_);
}

void io_wait::describe(std::string& out) const {
    out += events_ != 0 ? "PostgreSQL" : "a thread that speaks to PostgreSQL";
}

detail::cancel_reply io_wait::cancel(const std::string&) noexcept {
    if (parked() && !owner_->cancel_seen_) {
        owner_->cancel_seen_ = true;
        end();
    }
    return detail::cancel_reply::refused;
}

namespace {

/// The error of a failed attempt to connect. libpq gives the SQLSTATE of a refusal only inside a verbose text, as in
/// "FATAL:  28P01: password ...": it is cut out there.
error connect_error(const PGconn* conn) {
    std::string text = trimmed(PQerrorMessage(conn));
    std::string code = "08001";
    for (std::size_t at = text.find(":  "); at != std::string::npos; at = text.find(":  ", at + 1)) {
        if (at + 9 >= text.size() || text[at + 8] != ':' || text[at + 9] != ' ') continue;
        const std::string_view found = std::string_view(text).substr(at + 3, 5);
        if (found.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string_view::npos) continue;
        code = found;
        text.erase(at + 3, 7);
        const std::size_t location = text.find("\nLOCATION:", at);
        if (location != std::string::npos) text.erase(location, text.find('\n', location + 1) - location);
        break;
    }
    // libpq guesses why a server may have closed the connection, and says it twice.
    text.erase(std::min(text.find("\n\tThis probably means"), text.size()));
    return error("cannot connect to PostgreSQL: " + one_line(std::move(text)), code);
}

struct options_closer {
    void operator()(PQconninfoOption* o) const noexcept { PQconninfoFree(o); }
};
using options_ptr = std::unique_ptr<PQconninfoOption, options_closer>;

void drop_notice(void*, const PGresult*) noexcept {}

}  // namespace

void opener::errand_done() noexcept {
    errand_.reset();
    if (wait_) wait_->end();
}

void opener::shut() noexcept {
    if (errand_) std::exchange(errand_, nullptr)->abandon();
    conn_.reset();
}

/// True if a cancel has come, and was not withdrawn (uncancel()).
bool opener::cancelled() noexcept {
    if (cancel_seen_ && !detail::require_task().must_cancel()) cancel_seen_ = false;
    return cancel_seen_;
}

bool opener::late() const { return deadline_ != time_point::max() && detail::require_loop().now() >= deadline_; }

namespace {

/// The errors about a URL that may hold a password, which they must not show.
class shown_url {
public:
    explicit shown_url(const std::string& url)
        : text_(without_password(url)),
          hint_(text_ == url ? "" : "; special characters of a password are written %40 and so on") {}
    /// libpq quotes parts of the URL, so its words are shown only if the URL has no password.
    [[noreturn]] void refuse_because(const std::string& words_of_libpq) const {
        refuse(hint_.empty() ? ": " + words_of_libpq : hint_);
    }
    /// If a password has a colon or a slash in it, libpq takes its rest for a port.
    [[noreturn]] void refuse_port() const { refuse(": its port is no number" + hint_); }
    [[noreturn]] void refuse_timeout() const { refuse(": its connect_timeout is no number of seconds"); }

private:
    [[noreturn]] void refuse(const std::string& why) const {
        throw std::invalid_argument("the URL '" + text_ + "' makes no sense" + why);
    }
    std::string text_;
    std::string hint_;
};

options_ptr parse(const std::string& url, const shown_url& shown) {
    char* message = nullptr;
    options_ptr parsed(PQconninfoParse(url.c_str(), &message));
    const std::string why = message ? trimmed(message) : "out of memory";
    PQfreemem(message);
    if (!parsed) shown.refuse_because(why);
    return parsed;
}

/// True for the options that this driver reads itself, so it needs their defaults; libpq finds the other defaults when
/// it connects.
bool is_read_here(std::string_view key) noexcept {
    return key == "host" || key == "hostaddr" || key == "port" || key == "connect_timeout";
}

const char* value_of(const options_ptr& options, std::string_view key) noexcept {
    const char* value = nullptr;
    for (const PQconninfoOption* o = options.get(); o && o->keyword; ++o) {
        if (key == o->keyword) value = o->val;
    }
    return value;
}

/// True for a port or several, with commas between them: several hosts may have several ports.
bool is_port_list(const char* text) noexcept { return std::strspn(text, "0123456789,") == std::strlen(text); }

std::optional<std::chrono::seconds> seconds_of(std::string_view text) noexcept {
    int seconds = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, code] = std::from_chars(text.data(), end, seconds);
    if (stop != end || code != std::errc()) return std::nullopt;
    return std::chrono::seconds(std::max(seconds, 0));
}

}  // namespace

opener::opener(const std::string& url) {
    const shown_url shown(url);
    const options_ptr parsed = parse(url, shown);
    const options_ptr defaults(PQconndefaults());  // PGHOST and the like
    for (const PQconninfoOption* o = parsed.get(); o->keyword; ++o) {
        const std::string_view key = o->keyword;
        if (key == "port" && o->val && !is_port_list(o->val)) shown.refuse_port();
        const char* const value = o->val || !is_read_here(key) ? o->val : value_of(defaults, key);
        if (!value) continue;
        if (key == "connect_timeout") {
            const std::optional<std::chrono::seconds> timeout = seconds_of(value);
            if (!timeout) shown.refuse_timeout();
            connect_timeout_ = *timeout;
        }
        options_.emplace_back(key, value);
    }
}

namespace {

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t from = 0;;) {
        const std::size_t comma = text.find(',', from);
        parts.push_back(text.substr(from, comma - from));
        if (comma == std::string::npos) return parts;
        from = comma + 1;
    }
}

/// The addresses of a host, or the reason why there are none. An empty address stands for a local socket.
struct resolved {
    std::vector<std::string> addresses;
    std::string failure;
};

resolved resolve_host(const std::string& host, bool numeric_only) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    if (numeric_only) hints.ai_flags = AI_NUMERICHOST;
    addrinfo* found = nullptr;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    resolved r;
    if (code != 0) {
        r.failure = code == EAI_SYSTEM ? std::generic_category().message(errno) : ::gai_strerror(code);
        return r;
    }
    for (const addrinfo* a = found; a; a = a->ai_next) {
        char text[NI_MAXHOST];
        if (::getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
            r.addresses.emplace_back(text);
        }
    }
    ::freeaddrinfo(found);
    if (r.addresses.empty()) r.failure = "it has no address";
    return r;
}

/// Resolves what needs no name server: local sockets and numeric addresses. Otherwise there are no addresses.
resolved resolve_at_once(const std::string& host) {
    if (!host.empty() && host[0] != '/' && host[0] != '@') return resolve_host(host, true);
    resolved local_socket;
    local_socket.addresses.emplace_back();
    return local_socket;
}

/// The options host, hostaddr and port of several addresses, joined by commas as libpq takes them.
class target_list {
public:
    void add(const std::string& host, const std::string& address, const std::string& port) {
        const char* const comma = std::exchange(first_, false) ? "" : ",";
        hosts += comma + host;
        addresses += comma + address;
        ports += comma + port;
    }
    bool has_address() const noexcept { return addresses.find_first_not_of(',') != std::string::npos; }

    std::string hosts, addresses, ports;

private:
    bool first_ = true;  // the first target may be all defaults: its three strings are empty then
};

template<class Options>
auto find(Options& options, std::string_view key) -> decltype(&options.front().second) {
    for (auto& [name, value] : options) {
        if (name == key) return &value;
    }
    return nullptr;
}

}  // namespace

// Sets the option hostaddr, because PQconnectPoll would block to resolve names. A host with several addresses becomes
// several hosts. Returns early where libpq is to report a mistake in the options, or after a cancel or the deadline.
coro<> opener::resolve() {
    std::string* const host = find(options_, "host");
    if (!host || host->empty() || find(options_, "hostaddr")) co_return;
    const std::vector<std::string> hosts = split(*host);
    const std::string* const port = find(options_, "port");
    std::vector<std::string> ports = port ? split(*port) : std::vector<std::string>(1);
    if (ports.size() != 1 && ports.size() != hosts.size()) co_return;  // libpq reports this mistake
    ports.resize(hosts.size(), ports[0]);                              // one port is for all hosts
    target_list all;
    for (std::size_t i = 0; i < hosts.size(); ++i) {
        auto answer = std::make_shared<resolved>(resolve_at_once(hosts[i]));
        if (answer->addresses.empty()) {
            auto ask = [answer, name = hosts[i]] { *answer = resolve_host(name, false); };
            errand_ = errand::start(*this, std::move(ask));
            while (errand_ && !cancelled() && !late()) co_await io_wait(*this, 0);
            if (cancelled() || late()) co_return;
        }
        if (answer->addresses.empty()) {
            throw error("cannot connect to PostgreSQL: resolving host '" + hosts[i] + "': " + answer->failure, "08001");
        }
        for (const std::string& address : answer->addresses) all.add(hosts[i], address, ports[i]);
    }
    *host = all.hosts;
    if (all.has_address()) options_.emplace_back("hostaddr", all.addresses);
    if (port) *find(options_, "port") = all.ports;
}

/// Gives a set of options for each address, because libpq goes on to the next address only when the system gives up one
/// that does not answer, after minutes. Where libpq itself has to choose among the addresses, they stay together.
std::vector<opener::options> opener::targets() {
    const std::string* const addresses = find(options_, "hostaddr");
    const std::string* const attributes = find(options_, "target_session_attrs");
    if (!addresses || (attributes && *attributes == "prefer-standby") || find(options_, "load_balance_hosts"))
        return {options_};
    std::vector<options> each(split(*addresses).size(), options_);
    for (const char* const key : {"host", "hostaddr", "port"}) {
        const std::string* const values = find(options_, key);
        if (!values) continue;
        const std::vector<std::string> parts = split(*values);
        if (parts.size() != 1 && parts.size() != each.size()) return {options_};  // libpq reports this mistake
        for (std::size_t i = 0; i < each.size(); ++i) *find(each[i], key) = parts[parts.size() == 1 ? 0 : i];
    }
    return each;
}

coro<connection_ptr> opener::open() {
    if (detail::require_task().must_cancel()) co_await sleep(std::chrono::seconds(0));
    if (connect_timeout_.count() > 0) deadline_ = detail::require_loop().now() + connect_timeout_;
    co_await resolve();
    std::optional<error> failed;
    if (!late()) {
        const std::vector<options> each = targets();
        for (std::size_t i = 0; i < each.size() && !cancelled(); ++i) {
            if (connect_timeout_.count() > 0) deadline_ = detail::require_loop().now() + connect_timeout_;
            const std::optional<error> why = co_await connect_to(each[i]);
            if (conn_) co_return std::move(conn_);
            if (!why) break;  // a cancel has come
            failed = failed ? error(failed->message() + "; " + why->message(), why->code()) : *why;
            if (!why->code().starts_with("08") && why->code() != "57P03") break;  // the server has refused
        }
    } else if (!cancelled()) {
        failed = no_answer(options_);
    }
    const bool was_cancelled = cancelled();
    shut();
    if (was_cancelled) detail::require_task().throw_cancelled();
    throw *failed;
}

error opener::no_answer(const options& target) const {
    const std::string* const host = find(target, "host");
    return error("cannot connect to PostgreSQL at " + (host ? *host : "the local socket") + ": no answer within " +
            std::to_string(connect_timeout_.count()) + " seconds (connect_timeout)",
        "08001");
}

/// Connects to one target. Gives nothing and has a connection (conn_) if that succeeds; gives the error if it fails,
/// and nothing after a cancel, without a connection.
coro<std::optional<error>> opener::connect_to(const options& target) {
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : target) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    if (!find(target, "client_encoding")) {
        keys.push_back("client_encoding");
        values.push_back("UTF8");
    }
    if (!find(target, "gssencmode")) {  // what GSS has encrypted nobody but libpq can read
        keys.push_back("gssencmode");
        values.push_back("disable");
    }
    keys.push_back("fallback_application_name");
    values.push_back("aiocxx");
    keys.push_back(nullptr);
    values.push_back(nullptr);
    conn_.reset(PQconnectStartParams(keys.data(), values.data(), 0));
    if (!conn_) throw std::bad_alloc();
    PQsetErrorVerbosity(conn_.get(), PQERRORS_VERBOSE);
    PQsetNoticeReceiver(conn_.get(), &drop_notice, nullptr);  // libpq would print the notices
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    while (!cancelled() && !late()) {
        if (PQstatus(conn_.get()) == CONNECTION_BAD) next = PGRES_POLLING_FAILED;
        if (next == PGRES_POLLING_OK || next == PGRES_POLLING_FAILED) break;
        co_await io_wait(
            *this, next == PGRES_POLLING_READING ? detail::io_entry::readable : detail::io_entry::writable);
        next = PQconnectPoll(conn_.get());
    }
    std::optional<error> why;
    if (late()) {
        why = no_answer(target);
    } else if (next == PGRES_POLLING_OK && !cancelled()) {
        deadline_ = time_point::max();
        co_return why;
    } else if (!cancelled()) {
        why = connect_error(conn_.get());
    }
    conn_.reset();
    if (cancelled()) why.reset();
    co_return why;
}

}  // namespace aio::inline v0::sql
