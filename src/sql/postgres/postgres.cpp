// The driver of PostgreSQL, which connection.cpp makes for a URL. It speaks through libpq, whose connection never
// blocks: the loop watches its descriptor, and libpq reads and writes what is ready. It still blocks while it
// resolves names and while it asks the server to cancel, so these two run on threads of their own.
//
// A cancel does not abandon a query: the server would go on with it, and its answer would be taken for the answer to
// the next query. Instead the driver asks the server to stop (PQcancel, over a connection of its own), and reads until
// the connection is idle.
//
// Such a request names no statement: it stops whatever the server's process does when it arrives. So the next statement
// is sent only when the request has ended (settle()). PQcancel returns once the server has closed the request's
// connection, which the server does after it has sent the signal to the process; the process takes a signal before the
// next message that it reads, and ignores it while it is idle. A pooler or proxy in between has to close the request's
// connection after the server has, as PgBouncer does. If any of this takes longer than cancel_deadline, the connection
// is closed for good.
//
// The statement of a stream outlives the calls of fetch(): a request that one call has made may stop the statement
// while a later call reads. Each operation notes only the cancels that came to it, so the later call throws the
// server's error 57014.

#include "sql/driver.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/detail/threads/blocking.hpp>
#include <aio/sleep.hpp>

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include <libpq-fe.h>
#include <netdb.h>
#include <sys/socket.h>

namespace aio::sql {
namespace {

constexpr unsigned boolean_type = 16, bytes_type = 17;  // OIDs of the server's catalogue, which never change
constexpr std::size_t batch_rows = 256;
constexpr std::size_t most_bytes = 0x3fffffff;  // of a message, and of a value: the server's MaxAllocSize
constexpr size_limits limits{"PostgreSQL", most_bytes - 64, most_bytes - 64, most_bytes - 64, 65535};
constexpr std::chrono::seconds default_connect_timeout{30};

struct result_closer {
    void operator()(PGresult* r) const noexcept { PQclear(r); }
};
using result_ptr = std::unique_ptr<PGresult, result_closer>;
struct options_closer {
    void operator()(PQconninfoOption* o) const noexcept { PQconninfoFree(o); }
};
using options_ptr = std::unique_ptr<PQconninfoOption, options_closer>;

/// The threads for calls that block on the network.
detail::blocking_pool& network_pool() {
    static auto* pool = new detail::blocking_pool(8, "aio-sql");
    return *pool;
}

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

std::string field_of(const PGresult* r, int which) {
    const char* const text = PQresultErrorField(r, which);
    return text ? text : "";
}

/// True if the error is about a word of the statement that is neither a literal nor a parameter, nor in quotes: then
/// the server's message names tables, columns or functions, and nothing else. position counts characters, the first
/// is 1.
bool about_a_name(const std::string& code, const std::string& position, const std::string& statement) {
    if (code != "42P01" && code != "42703" && code != "42883") return false;
    std::size_t count = 0, at = 0;
    std::from_chars(position.data(), position.data() + position.size(), count);
    if (count == 0) return false;
    const auto goes_on = [&](std::size_t i) { return (static_cast<unsigned char>(statement[i]) & 0xC0) == 0x80; };
    while (at < statement.size() && --count > 0) {
        do ++at;
        while (at < statement.size() && goes_on(at));
    }
    const auto in_word = [&](std::size_t i) {
        const auto c = static_cast<unsigned char>(statement[i]);
        return std::isalnum(c) || c == '_' || c == '.' || c >= 0x80;
    };
    if (at == statement.size() || !in_word(at)) return false;
    if (at > 0 && (statement[at - 1] == '\'' || statement[at - 1] == '"')) return false;
    while (at < statement.size() && in_word(at)) ++at;
    return at == statement.size() || (statement[at] != '\'' && statement[at] != '"' && statement[at] != '&');
}

/// The error that the server has sent. Its primary message and its detail both quote values ("invalid input syntax for
/// type integer: ..."), so what() has neither.
error error_of(const PGresult* r, const std::string& statement) {
    error::parts p;
    p.statement = statement;
    p.code = field_of(r, PG_DIAG_SQLSTATE);
    if (p.code.empty()) return error(one_line(trimmed(PQresultErrorMessage(r))), "08006", statement);  // libpq's own
    p.message = field_of(r, PG_DIAG_MESSAGE_PRIMARY);
    p.detail = field_of(r, PG_DIAG_MESSAGE_DETAIL);
    p.constraint = field_of(r, PG_DIAG_CONSTRAINT_NAME);
    p.table = field_of(r, PG_DIAG_TABLE_NAME);
    p.column = field_of(r, PG_DIAG_COLUMN_NAME);
    const std::string position = field_of(r, PG_DIAG_STATEMENT_POSITION);
    // The server says in fixed words why it ends a connection: no statement has a part in them.
    const bool fatal = field_of(r, PG_DIAG_SEVERITY_NONLOCALIZED) == "FATAL";
    std::string text = fatal || about_a_name(p.code, position, statement) ? p.message : condition_of(p.code);
    text += " (" + p.code + ")";
    if (!position.empty()) text += " at character " + position;
    if (!p.constraint.empty()) text += ", constraint \"" + p.constraint + "\"";
    if (!p.table.empty()) text += ", table \"" + p.table + "\"";
    if (!p.column.empty()) text += ", column \"" + p.column + "\"";
    if (const std::string hint = field_of(r, PG_DIAG_MESSAGE_HINT); !hint.empty()) p.message += "; " + hint;
    return error(text, std::move(p));
}

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
    return error(one_line(std::move(text)), code);
}

class postgres;

/// A blocking call on a thread of the pool. The driver and the pool share it, so that neither has to wait for the
/// other.
class errand final : public detail::blocking_job {
public:
    /// Calls fn() in the thread, and then postgres::errand_done() in the loop, unless the errand was abandoned.
    template<class F>
    static std::shared_ptr<errand> start(postgres& owner, F fn);
    /// Nobody waits for the errand any more. It may hang for ever, so its thread leaves the pool.
    void abandon() noexcept;

private:
    errand(postgres& owner, detail::loop_core& loop, detail::function<void()> fn);
    postgres* owner_;
    detail::loop_core* loop_;
    std::shared_ptr<detail::mailbox> loop_mail_;  // the loop's; the pool moves from home
    detail::function<void()> fn_;
    std::shared_ptr<errand> self_;  // keeps the errand alive until it is delivered
};

/// Waits for the connection's descriptor, the end of its errand, its deadline, or a cancel. Whatever comes first ends
/// the wait, and the caller looks what it was. A cancel is only noted: the statement under way has to end in order.
class io_wait final : public detail::irrevocable<io_wait> {
public:
    /// events: bits of io_entry; with 0 the descriptor is not watched.
    io_wait(postgres& owner, std::uint32_t events) noexcept;
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
    postgres* owner_;
    std::uint32_t events_;
    std::exception_ptr error_;
    timer timer_;
    detail::fd_watch watch_;
};

/// The driver. Its coroutines run one at a time (connection sees to that), and wait in io_wait.
class postgres final : public driver {
public:
    explicit postgres(const std::string& url);
    ~postgres() override { shut(); }

    coro<> open() override;
    coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) override;
    coro<> open_stream(std::string statement, std::vector<parameter> parameters) override;
    coro<table_ptr> fetch() override;
    void drop_stream() noexcept override;
    coro<> close() override {
        no_cancel();
        co_await settle();  // a request to cancel may still have to stop a statement that was left behind
        shut();             // libpq says goodbye without waiting
    }
    bool usable() noexcept override;
    bool in_transaction() const noexcept override {
        if (!conn_ || PQstatus(conn_) != CONNECTION_OK) return false;
        const PGTransactionStatusType now = PQtransactionStatus(conn_);
        return now == PQTRANS_ACTIVE ? savepoint_
                                     : now != PQTRANS_IDLE;  // active: a stream, which has a savepoint in a transaction
    }
    std::string begin_statement(const transaction_options& options) const override;
    ending ended() const noexcept override { return ended_; }
    const char* ended_code() const noexcept override { return "25P01"; }

    void errand_done() noexcept {
        errand_.reset();
        if (wait_) wait_->end();
    }
    /// When a wait has to end even if nothing comes: at the deadline, or when the request to cancel is to be repeated.
    time_point next_look() const noexcept {
        return errand_ || !cancel_seen_ || cancel_again_ == time_point::min() ? deadline_
                                                                              : std::min(deadline_, cancel_again_);
    }

private:
    friend class io_wait;
    /// What has come of a statement, or of several in one text.
    struct outcome {
        std::shared_ptr<table> last;
        std::optional<error> failed;  // the first error
        bool ended = false;
    };

    using options = std::vector<std::pair<std::string, std::string>>;
    coro<> resolve();
    std::vector<options> targets();
    coro<std::optional<error>> connect_to(const options& target);
    error no_answer(const options& target) const;
    coro<> begin(on_cancel rule, std::string statement);
    coro<> drain();
    coro<> settle();
    void drop_notifications() noexcept;
    coro<> command(std::string text);
    void send(const std::string& statement, const std::vector<parameter>& parameters, bool stream);
    coro<> input(on_cancel rule);
    coro<> end_statement(outcome& o, on_cancel rule);
    void take(outcome& o, result_ptr r);
    [[noreturn]] void fail(const outcome& o, on_cancel rule);
    void ask_to_cancel() noexcept;
    void no_cancel() noexcept;
    /// True if a cancel has come to the operation under way, and was not withdrawn (uncancel()).
    bool cancelled() noexcept {
        if (cancel_seen_ && !detail::require_task().must_cancel()) cancel_seen_ = false;
        return cancel_seen_;
    }
    bool late() const { return deadline_ != time_point::max() && detail::require_loop().now() >= deadline_; }
    static void on_notice(void* self, const PGresult* r) noexcept;
    std::string why_gone() const;
    void shut() noexcept;
    void lose(std::string why) noexcept;

    options options_;                                                 // as libpq has read the URL
    std::chrono::seconds connect_timeout_ = default_connect_timeout;  // 0: none
    PGconn* conn_ = nullptr;
    std::shared_ptr<errand> errand_;
    io_wait* wait_ = nullptr;
    time_point deadline_ = time_point::max();
    bool cancel_seen_ = false;                     // a cancel has come to the operation under way
    time_point cancel_again_ = time_point::min();  // when to ask the server to cancel, for the first time or again
    std::chrono::milliseconds cancel_pause_{0};
    bool savepoint_ = false;  // the stream has a savepoint of its own
    ending ended_ = ending::rolled_back;
    bool draining_ = false;  // a dropped stream has still to be ended: see drain()
    std::string lost_;       // why the connection is gone
    std::string farewell_;   // why the server has ended an idle connection, in its words
    std::string statement_;  // the one under way, for errors
    outcome stream_;
};

// ---- errands ----

errand::errand(postgres& owner, detail::loop_core& loop, detail::function<void()> fn)
    : owner_(&owner), loop_(&loop), loop_mail_(detail::mailbox_of(loop)), fn_(std::move(fn)) {
    home = loop_mail_;
    run = [](detail::blocking_job& job) noexcept { static_cast<errand&>(job).fn_(); };
    deliver = [](detail::mailbox_node& node) noexcept {
        const std::shared_ptr<errand> self = std::move(static_cast<errand&>(node).self_);
        --self->loop_->outstanding;
        if (self->owner_) self->owner_->errand_done();
    };
    orphaned = [](detail::blocking_job& job) noexcept { static_cast<errand&>(job).self_.reset(); };
}

template<class F>
std::shared_ptr<errand> errand::start(postgres& owner, F fn) {
    detail::loop_core& loop = detail::require_loop();
    std::shared_ptr<errand> e(new errand(owner, loop, std::move(fn)));
    e->self_ = e;
    try {
        network_pool().submit(*e);
    } catch (...) {
        e->self_.reset();
        throw;
    }
    ++loop.outstanding;
    return e;
}

void errand::abandon() noexcept {
    owner_ = nullptr;
    const bool loop_lives = !loop_mail_->closed();  // once it is closed, the loop may be gone
    switch (network_pool().give_up(*this)) {
        case detail::blocking_pool::given_up::withdrawn: self_.reset(); break;
        case detail::blocking_pool::given_up::running: break;
        case detail::blocking_pool::given_up::finished: return;  // the mailbox delivers it, if there is a loop
    }
    if (loop_lives) --loop_->outstanding;
}

// ---- waiting ----

io_wait::io_wait(postgres& owner, std::uint32_t events) noexcept
    : owner_(&owner), events_(events), watch_([this](std::uint32_t) { end(); }) {}

bool io_wait::start() noexcept {
    try {
        if (events_ != 0) watch_.watch(PQsocket(owner_->conn_), events_);
        if (const time_point until = owner_->next_look(); until != time_point::max()) {
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

// ---- connecting ----

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

postgres::postgres(const std::string& url) {
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
coro<> postgres::resolve() {
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
std::vector<postgres::options> postgres::targets() {
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

coro<> postgres::open() {
    if (detail::require_task().must_cancel()) co_await sleep(std::chrono::seconds(0));
    if (connect_timeout_.count() > 0) deadline_ = detail::require_loop().now() + connect_timeout_;
    co_await resolve();
    std::optional<error> failed;
    if (!late()) {
        const std::vector<options> each = targets();
        for (std::size_t i = 0; i < each.size() && !cancelled(); ++i) {
            if (connect_timeout_.count() > 0) deadline_ = detail::require_loop().now() + connect_timeout_;
            const std::optional<error> why = co_await connect_to(each[i]);
            if (conn_) co_return;
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

error postgres::no_answer(const options& target) const {
    const std::string* const host = find(target, "host");
    return error("cannot connect to PostgreSQL at " + (host ? *host : "the local socket") + ": no answer within " +
            std::to_string(connect_timeout_.count()) + " seconds (connect_timeout)",
        "08001");
}

/// Connects to one target. Gives nothing and has a connection (conn_) if that succeeds; gives the error if it fails,
/// and nothing after a cancel, without a connection.
coro<std::optional<error>> postgres::connect_to(const options& target) {
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : target) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    if (!find(target, "client_encoding")) {
        keys.push_back("client_encoding");
        values.push_back("UTF8");
    }
    keys.push_back("fallback_application_name");
    values.push_back("aiocxx");
    keys.push_back(nullptr);
    values.push_back(nullptr);
    conn_ = PQconnectStartParams(keys.data(), values.data(), 0);
    if (!conn_) throw std::bad_alloc();
    PQsetErrorVerbosity(conn_, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(conn_, &on_notice, this);  // libpq would print the notices
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    while (!cancelled() && !late()) {
        if (PQstatus(conn_) == CONNECTION_BAD) next = PGRES_POLLING_FAILED;
        if (next == PGRES_POLLING_OK || next == PGRES_POLLING_FAILED) break;
        co_await io_wait(
            *this, next == PGRES_POLLING_READING ? detail::io_entry::readable : detail::io_entry::writable);
        next = PQconnectPoll(conn_);
    }
    std::optional<error> why;
    if (late()) {
        why = no_answer(target);
    } else if (next == PGRES_POLLING_OK && !cancelled()) {
        PQsetErrorVerbosity(conn_, PQERRORS_DEFAULT);
        PQsetnonblocking(conn_, 1);
        deadline_ = time_point::max();
        co_return why;
    } else if (!cancelled()) {
        why = connect_error(conn_);
    }
    PQfinish(std::exchange(conn_, nullptr));
    if (cancelled()) why.reset();
    co_return why;
}

// Drops notices, but keeps what the server says before it ends an idle connection, which comes as a notice, too.
void postgres::on_notice(void* self, const PGresult* r) noexcept {
    postgres& p = *static_cast<postgres*>(self);
    try {
        const std::string severity = field_of(r, PG_DIAG_SEVERITY_NONLOCALIZED);
        if (severity == "FATAL" || severity == "PANIC") p.farewell_ = error_of(r, std::string()).what();
    } catch (...) {  // no memory: then an error does not say why
    }
}

std::string postgres::why_gone() const {
    if (!lost_.empty()) return lost_;
    return farewell_.empty() ? "the server has closed it" : farewell_;
}

void postgres::shut() noexcept {
    if (errand_) std::exchange(errand_, nullptr)->abandon();
    if (conn_) PQfinish(std::exchange(conn_, nullptr));
    if (lost_.empty()) lost_ = "it was closed";
}

void postgres::lose(std::string why) noexcept {
    shut();
    lost_ = std::move(why);
}

bool postgres::usable() noexcept {
    if (!conn_) return false;
    // While nothing is under way the server only says that it goes away: first a message, then the end.
    if (!wait_ && !PQisBusy(conn_) && PQtransactionStatus(conn_) != PQTRANS_ACTIVE) {
        PQconsumeInput(conn_);
        PQconsumeInput(conn_);
        drop_notifications();
    }
    return PQstatus(conn_) == CONNECTION_OK;
}

// ---- statements ----

coro<> postgres::begin(on_cancel rule, std::string statement) {
    no_cancel();
    if (conn_ && draining_) co_await drain();
    co_await settle();
    if (conn_ && PQtransactionStatus(conn_) == PQTRANS_ACTIVE) lose("an operation on it was broken off");
    if (!conn_ || PQstatus(conn_) != CONNECTION_OK) {
        throw error("the connection to PostgreSQL is gone: " + why_gone(), "08003", statement);
    }
    if (rule != on_cancel::shield && detail::require_task().must_cancel()) co_await sleep(std::chrono::seconds(0));
    no_cancel();
    // A rollback gets no more time than a statement that was cancelled.
    if (rule == on_cancel::shield) deadline_ = detail::require_loop().now() + cancel_deadline;
    statement_ = std::move(statement);
}

/// Forgets earlier cancels and deadlines, because an operation begins.
void postgres::no_cancel() noexcept {
    cancel_seen_ = false;
    deadline_ = time_point::max();
    cancel_again_ = time_point::min();
    cancel_pause_ = std::chrono::milliseconds(5);
}

/// Waits until a request to cancel that is under way has ended, because it must not hit the next statement. If that
/// takes too long, the connection is lost.
coro<> postgres::settle() {
    if (errand_ && deadline_ == time_point::max()) deadline_ = detail::require_loop().now() + cancel_deadline;
    while (errand_) {
        co_await io_wait(*this, 0);
        if (late())
            lose("a request to cancel did not end within " + std::to_string(cancel_deadline.count()) + " seconds");
    }
}

/// Ends the statement of a stream that was dropped. A cancel that comes meanwhile stays pending.
coro<> postgres::drain() {
    outcome rest;
    cancel_seen_ = true;
    deadline_ = detail::require_loop().now() + cancel_deadline;
    co_await end_statement(rest, on_cancel::interrupt);
    if (conn_ && std::exchange(savepoint_, false)) {
        // The cancelled statement has made its transaction fail, so it goes back to the savepoint before the stream.
        rest = outcome();
        deadline_ = detail::require_loop().now() + cancel_deadline;
        send("ROLLBACK TO SAVEPOINT aio_stream; RELEASE SAVEPOINT aio_stream", std::vector<parameter>(), false);
        co_await end_statement(rest, on_cancel::shield);
    }
    draining_ = false;
}

namespace {

/// Parameters as PQsendQueryParams takes them: all but bytes as text. Points into the parameters that it was made of,
/// and into itself.
class bound_parameters {
public:
    explicit bound_parameters(const std::vector<parameter>& given) : texts_(given.size()) {
        for (const parameter& p : given) add(p);
    }
    bound_parameters(const bound_parameters&) = delete;
    bound_parameters& operator=(const bound_parameters&) = delete;

    bool send(PGconn* conn, const std::string& statement) const {
        return PQsendQueryParams(conn, statement.c_str(), static_cast<int>(values_.size()), types_.data(),
                   values_.data(), lengths_.data(), formats_.data(), 0) == 1;
    }

private:
    void add(const parameter& p) {
        const std::string* const value = value_of(p);
        const bool bytes = p.type() == parameter::kind::blob;
        values_.push_back(value ? value->c_str() : nullptr);
        types_.push_back(bytes ? bytes_type : 0);  // the server infers the other types
        lengths_.push_back(value ? static_cast<int>(value->size()) : 0);
        formats_.push_back(bytes ? 1 : 0);
    }
    /// Gives null for NULL.
    const std::string* value_of(const parameter& p) {
        std::string& text = texts_[values_.size()];
        switch (p.type()) {
            case parameter::kind::null: return nullptr;
            case parameter::kind::boolean: text = p.integer() ? "true" : "false"; return &text;
            case parameter::kind::integer: text = std::to_string(p.integer()); return &text;
            case parameter::kind::real: text = format_real(p.real()); return &text;
            case parameter::kind::text:
                if (p.bytes().find('\0') != std::string::npos) {
                    throw std::invalid_argument("the text for $" + std::to_string(values_.size() + 1) +
                        " holds a NUL byte, which PostgreSQL's text cannot: give std::vector<std::byte>");
                }
                return &p.bytes();
            case parameter::kind::blob: return &p.bytes();
        }
        return &text;
    }
    std::vector<std::string> texts_;  // of numbers; one for each parameter from the start, so that none moves
    std::vector<const char*> values_;
    std::vector<Oid> types_;
    std::vector<int> lengths_, formats_;
};

}  // namespace

void postgres::send(const std::string& statement, const std::vector<parameter>& parameters, bool stream) {
    check_sizes(statement, parameters, limits);
    // PQsendQuery takes several statements in one text; PQsendQueryParams takes one, as parameters and streams have.
    bool sent = parameters.empty() && !stream ? PQsendQuery(conn_, statement.c_str()) == 1
                                              : bound_parameters(parameters).send(conn_, statement);
    if (sent && stream) sent = PQsetSingleRowMode(conn_) == 1;
    if (sent) return;
    const std::string why = trimmed(PQerrorMessage(conn_));
    if (PQstatus(conn_) != CONNECTION_OK || PQtransactionStatus(conn_) == PQTRANS_ACTIVE) lose(why);
    throw error(why, PQstatus(conn_) == CONNECTION_OK ? "54000" : "08006", statement);
}

// Starts a request to cancel. The server ignores one that arrives before the statement has begun there, so input()
// repeats it, after growing pauses, until it has had an effect.
void postgres::ask_to_cancel() noexcept {
    struct closer {
        void operator()(PGcancel* c) const noexcept { PQfreeCancel(c); }
    };
    try {
        cancel_again_ = detail::require_loop().now() + cancel_pause_;
        cancel_pause_ = std::min(cancel_pause_ * 2, std::chrono::milliseconds(500));
        std::unique_ptr<PGcancel, closer> request(PQgetCancel(conn_));
        if (!request) return;  // then the deadline ends the wait
        auto ask = [owned = std::move(request)] {
            char why[256];
            PQcancel(owned.get(), why, sizeof why);
        };
        errand_ = errand::start(*this, std::move(ask));
    } catch (...) {  // then the deadline ends the wait
    }
}

/// Sends what is still unsent, and waits once for bytes, the end of an errand, the deadline or a cancel. Once a cancel
/// has come, it sets the deadline and, by the rule interrupt, asks the server to stop. Afterwards the connection may be
/// lost.
coro<> postgres::input(on_cancel rule) {
    const int unsent = PQflush(conn_);
    if (PQstatus(conn_) != CONNECTION_OK || (unsent == 0 && !PQisBusy(conn_))) co_return;
    if (cancel_seen_) {
        const time_point now = detail::require_loop().now();
        if (deadline_ == time_point::max()) deadline_ = now + cancel_deadline;
        if (rule == on_cancel::interrupt && !errand_ && now >= cancel_again_) ask_to_cancel();
    }
    co_await io_wait(*this, detail::io_entry::readable | (unsent > 0 ? detail::io_entry::writable : 0u));
    if (late()) {
        lose(std::string(rule == on_cancel::shield ? "the server did not answer to a rollback within "
                                                   : "the server did not end a cancelled statement within ") +
            std::to_string(cancel_deadline.count()) + " seconds");
        co_return;
    }
    PQconsumeInput(conn_);  // libpq turns a lost connection into a result with an error
    drop_notifications();
}

/// Frees the notifications that a LISTEN brings: nobody takes them, and libpq would keep them for ever.
void postgres::drop_notifications() noexcept {
    while (PGnotify* const n = PQnotifies(conn_)) PQfreemem(n);
}

void postgres::take(outcome& o, result_ptr result) {
    const PGresult* r = result.get();
    switch (PQresultStatus(r)) {
        case PGRES_COMMAND_OK:
        case PGRES_TUPLES_OK:
        case PGRES_SINGLE_TUPLE:
        case PGRES_EMPTY_QUERY: break;
        case PGRES_COPY_IN:
        case PGRES_COPY_OUT:
        case PGRES_COPY_BOTH:
            o.failed.emplace(
                "COPY between client and server is not supported; the connection is closed", "0A000", statement_);
            o.ended = true;
            lose("it was closed because of a COPY");
            return;
        default:
            if (!o.failed) o.failed = error_of(r, statement_);
            return;
    }
    if (!o.last || PQresultStatus(r) != PGRES_SINGLE_TUPLE) {
        o.last = std::make_shared<table>();
        for (int i = 0; i < PQnfields(r); ++i) {
            o.last->columns.emplace_back(PQfname(r, i));
            o.last->types.push_back(PQftype(r, i));
        }
    }
    table& t = *o.last;
    t.tag = PQcmdStatus(const_cast<PGresult*>(r));
    if (t.tag == "COMMIT" || t.tag == "PREPARE TRANSACTION") ended_ = ending::committed;
    if (t.tag == "ROLLBACK") ended_ = ending::rolled_back;
    if (!t.tag.starts_with("SELECT") && !t.tag.starts_with("FETCH") && !t.tag.starts_with("MOVE")) {
        const std::string_view count = PQcmdTuples(const_cast<PGresult*>(r));
        std::from_chars(count.data(), count.data() + count.size(), t.affected);
    }
    const int columns = PQnfields(r);
    for (int i = 0; i < PQntuples(r); ++i) {
        for (int c = 0; c < columns; ++c) {
            const char* value = PQgetvalue(r, i, c);
            const auto size = static_cast<std::size_t>(PQgetlength(r, i, c));
            if (PQgetisnull(r, i, c)) {
                t.add_null();
            } else if (PQftype(r, c) == boolean_type) {
                t.add_integer(value[0] == 't', parameter::kind::boolean);
            } else if (PQftype(r, c) == bytes_type) {
                std::size_t length = 0;
                unsigned char* bytes = PQunescapeBytea(reinterpret_cast<const unsigned char*>(value), &length);
                if (!bytes) throw std::bad_alloc();
                t.add_bytes(bytes, length, parameter::kind::blob);
                PQfreemem(bytes);
            } else {
                t.add_bytes(value, size, parameter::kind::text);
            }
        }
        ++t.row_count;
    }
}

/// Reads until the connection is idle again and no request to cancel is on its way.
coro<> postgres::end_statement(outcome& o, on_cancel rule) {
    while (!o.ended && conn_) {
        if (!PQisBusy(conn_)) {
            if (result_ptr r{PQgetResult(conn_)}) {
                take(o, std::move(r));
            } else {
                o.ended = true;
            }
        } else {
            co_await input(rule);
        }
    }
    co_await settle();
    if (conn_) drop_notifications();
    deadline_ = time_point::max();
    if (conn_ && PQstatus(conn_) != CONNECTION_OK) lose(o.failed ? o.failed->what() : why_gone());
}

void postgres::fail(const outcome& o, on_cancel rule) {
    detail::task_base& task = detail::require_task();
    // A cancel that was withdrawn meanwhile (uncancel()) does not count.
    if (cancel_seen_ && task.must_cancel() && rule == on_cancel::interrupt &&
        (!conn_ || (o.failed && o.failed->code() == "57014")))
        task.throw_cancelled();
    if (o.failed) throw *o.failed;
    throw error("the connection to PostgreSQL is lost: " + lost_, "08006", statement_);
}

coro<table_ptr> postgres::execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) {
    co_await begin(rule, statement);
    send(statement, parameters, false);
    outcome o;
    co_await end_statement(o, rule);
    if (!conn_ || o.failed) fail(o, rule);
    if (detail::require_task().must_cancel()) detail::require_task().overtake_cancel();
    if (!o.last) o.last = std::make_shared<table>();
    co_return o.last;
}

// ---- streams ----

/// Runs a statement of the driver's own, before or after a stream.
coro<> postgres::command(std::string text) {
    co_await settle();
    outcome o;
    if (!conn_) fail(o, on_cancel::complete);
    send(text, std::vector<parameter>(), false);
    co_await end_statement(o, on_cancel::complete);
    if (!conn_ || o.failed) fail(o, on_cancel::complete);
    no_cancel();
}

coro<> postgres::open_stream(std::string statement, std::vector<parameter> parameters) {
    co_await begin(on_cancel::interrupt, statement);
    stream_ = outcome();
    // A stream that is dropped has to be cancelled, which would make the transaction around it fail: hence a savepoint.
    if (PQtransactionStatus(conn_) == PQTRANS_INTRANS) {
        co_await command("SAVEPOINT aio_stream");
        savepoint_ = true;
    }
    send(statement, parameters, true);
}

coro<table_ptr> postgres::fetch() {
    if (detail::require_task().must_cancel()) co_await sleep(std::chrono::seconds(0));
    no_cancel();
    outcome& o = stream_;
    const auto has_rows = [&o] { return o.last && o.last->row_count > 0; };
    while (conn_ && !o.ended && !o.failed) {
        if (PQisBusy(conn_)) {
            if (has_rows()) break;
            co_await input(on_cancel::interrupt);
            continue;
        }
        result_ptr r(PQgetResult(conn_));
        if (!r) {
            o.ended = true;
        } else if (PQresultStatus(r.get()) != PGRES_TUPLES_OK &&
            PQresultStatus(r.get()) != PGRES_COMMAND_OK) {  // a row, or an error
            take(o, std::move(r));
        }
        if (has_rows() && o.last->row_count == batch_rows) break;
    }
    if (has_rows()) co_return std::exchange(o.last, nullptr);  // an error is thrown after the rows before it
    if (o.ended && !o.failed) {
        if (std::exchange(savepoint_, false)) co_await command("RELEASE SAVEPOINT aio_stream");
        co_return nullptr;
    }
    savepoint_ = false;  // the transaction has failed, as after any other statement
    co_await end_statement(o, on_cancel::interrupt);
    fail(o, on_cancel::interrupt);
}

void postgres::drop_stream() noexcept {
    if (!conn_) return;
    const bool active = PQtransactionStatus(conn_) == PQTRANS_ACTIVE;
    draining_ = active || savepoint_;
    if (active && !errand_) ask_to_cancel();
}

std::string postgres::begin_statement(const transaction_options& options) const {
    std::string text = "BEGIN";
    switch (options.isolation) {
        case isolation::standard: break;
        case isolation::read_committed: text += " ISOLATION LEVEL READ COMMITTED"; break;
        case isolation::repeatable_read: text += " ISOLATION LEVEL REPEATABLE READ"; break;
        case isolation::serializable: text += " ISOLATION LEVEL SERIALIZABLE"; break;
    }
    if (options.read_only) text += " READ ONLY";
    if (options.deferrable) text += " DEFERRABLE";
    return text;
}

}  // namespace

std::unique_ptr<driver> make_postgres(const std::string& url, connect_options) {
    return std::make_unique<postgres>(url);
}

}  // namespace aio::sql
