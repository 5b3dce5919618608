// The driver of PostgreSQL, which connection.cpp makes for a URL. opener connects, session speaks with the server; this
// puts what a connection asks for into jobs of the session.
//
// A stream is a portal from which a batch of rows is asked at a time, so that a slow consumer holds the server back. A
// stream that is left while the server works on it has to be cancelled, which would make the transaction around it
// fail: hence a savepoint.

#include "sql/postgres/session.hpp"

#include <aio/sleep.hpp>

#include <cctype>

namespace aio::inline v0::sql {
namespace {

constexpr std::size_t most_bytes = 0x3fffffff;  // of a message, and of a value: the server's MaxAllocSize
constexpr size_limits limits{"PostgreSQL", most_bytes - 64, most_bytes - 64, most_bytes - 64, 65535};

/// The first word of a statement, in lower case.
std::string first_word(std::string_view statement) {
    std::string word;
    const std::size_t from = statement.find_first_not_of(" \t\r\n(");
    if (from == std::string_view::npos) return word;
    for (const char c : statement.substr(from, 8)) {
        if (!std::isalpha(static_cast<unsigned char>(c))) break;
        word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    return word;
}

/// True if the text may be several statements: where a semicolon stands in it, it need not be one that ends a
/// statement.
bool may_be_several(std::string_view text) noexcept {
    const std::size_t semicolon = text.find(';');
    return semicolon != std::string_view::npos &&
        text.find_first_not_of("; \t\r\n", semicolon) != std::string_view::npos;
}

bool mentions_copy(std::string_view text) noexcept {
    for (std::size_t i = 0; i + 4 <= text.size(); ++i) {
        if ((text[i] | 32) == 'c' && (text[i + 1] | 32) == 'o' && (text[i + 2] | 32) == 'p' &&
            (text[i + 3] | 32) == 'y')
            return true;
    }
    return false;
}

/// True for what is worth preparing. BEGIN and the like must not depend on what the server has prepared: a transaction
/// has to end also after a DISCARD ALL. A statement with a parameter that was not given fails more clearly as a text.
bool is_query(std::string_view statement) {
    if (may_be_several(statement) || statement.find('$') != std::string_view::npos) return false;
    const std::string word = first_word(statement);
    return word == "select" || word == "insert" || word == "update" || word == "delete" || word == "with" ||
        word == "values" || word == "merge";
}

std::string quoted(std::string_view identifier) {
    std::string text = "\"";
    for (const char c : identifier) {
        text += c;
        if (c == '"') text += c;
    }
    return text + '"';
}

void check_parameters(const std::string& statement, const std::vector<parameter>& parameters) {
    check_sizes(statement, parameters, limits);
    check_texts(parameters);
}

class postgres final : public driver {
public:
    postgres(const std::string& url, connect_options options) : opener_(url), options_(options) {}

    coro<> open() override {
        connection_ptr conn = co_await opener_.open();
        session_.emplace(std::move(conn), options_.statement_cache);
    }
    coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) override;
    coro<table_ptr> execute_many(std::string statement, std::vector<std::vector<parameter>> sets) override;
    bool pipelines(const std::string& statement, const std::vector<parameter>& parameters) const override {
        return !parameters.empty() || !(may_be_several(statement) || mentions_copy(statement));
    }
    coro<> open_stream(std::string statement, std::vector<parameter> parameters) override;
    coro<table_ptr> fetch() override;
    void drop_stream() noexcept override;
    coro<> open_copy(std::string statement, bool in) override;
    coro<> send_copy(std::string piece) override;
    coro<table_ptr> end_copy(std::string why_not) override;
    coro<std::string> fetch_copy() override;
    async_generator<notification> listen(std::string channel) override;
    void handle_notices(detail::function<void(const notice&)> fn) override {
        if (session_) session_->on_notice = std::move(fn);
    }
    void check_notifies() const override {}
    coro<> close() override {
        if (!session_) co_return;
        session_->stop_all();
        co_await quiet_wait(*session_);  // a request to cancel may still have to stop a statement that was left behind
        session_->shut();                // libpq says goodbye without waiting
    }
    bool usable() noexcept override { return session_ && session_->look(); }
    bool lost() const noexcept override { return !session_ || session_->lost(); }
    bool in_transaction() const noexcept override { return session_ && !session_->lost() && session_->status() != 'I'; }
    std::string begin_statement(const transaction_options& options) const override;
    ending ended() const noexcept override {
        return session_ && session_->last_end() != "ROLLBACK" && !session_->last_end().empty() ? ending::committed
                                                                                               : ending::rolled_back;
    }
    const char* ended_code() const noexcept override { return "25P01"; }

private:
    void leave_stream(bool whole) noexcept;

    opener opener_;
    connect_options options_;
    std::optional<session> session_;
    std::unique_ptr<job> stream_;  // or a COPY
    bool savepoint_ = false;       // the stream has a savepoint of its own
};

coro<table_ptr> postgres::execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) {
    check_parameters(statement, parameters);
    session_->check_alive(statement);
    const bool simple = parameters.empty() && (rule != on_cancel::interrupt || !is_query(statement));
    job j(simple ? form::text : form::query, rule, statement);
    j.parameters = &parameters;
    while (!j.done) co_await job_wait(*session_, j);
    session_->check(j);
    if (!j.result) j.result = std::make_shared<table>();
    co_return std::move(j.result);
}

coro<table_ptr> postgres::execute_many(std::string statement, std::vector<std::vector<parameter>> sets) {
    for (const std::vector<parameter>& set : sets) check_parameters(statement, set);
    session_->check_alive(statement);
    job j(form::many, on_cancel::interrupt, statement);
    j.sets = &sets;
    while (!j.done) co_await job_wait(*session_, j);
    session_->check(j);
    if (!j.result) j.result = std::make_shared<table>();
    co_return std::move(j.result);
}

// ---- streams ----

coro<> postgres::open_stream(std::string statement, std::vector<parameter> parameters) {
    check_parameters(statement, parameters);
    session_->check_alive(statement);
    if (detail::require_task().must_cancel()) co_await sleep(std::chrono::seconds(0));
    savepoint_ = session_->status() == 'T';
    if (savepoint_) session_->command("SAVEPOINT aio_stream");
    stream_ = std::make_unique<job>(form::stream, on_cancel::interrupt, std::move(statement), std::move(parameters));
}

coro<table_ptr> postgres::fetch() {
    job& j = *stream_;
    session_->want_again(j);
    for (;;) {
        if (j.result && j.result->row_count > 0) co_return std::exchange(j.result, nullptr);
        if (j.done) break;
        if (j.suspended) session_->next_batch(j);
        co_await job_wait(*session_, j);
    }
    const std::unique_ptr<job> ended = std::move(stream_);
    if (ended->failed || ended->thrown) savepoint_ = false;  // the transaction has failed, as after any other statement
    session_->check(*ended);
    leave_stream(true);
    co_return nullptr;
}

void postgres::leave_stream(bool whole) noexcept {
    if (!std::exchange(savepoint_, false)) return;
    try {
        session_->command(
            whole ? "RELEASE SAVEPOINT aio_stream" : "ROLLBACK TO SAVEPOINT aio_stream; RELEASE SAVEPOINT aio_stream");
    } catch (const std::bad_alloc&) { session_->shut(); }
}

void postgres::drop_stream() noexcept {
    if (!stream_) return;
    const bool suspended = stream_->suspended;
    session_->leave(std::move(stream_));
    leave_stream(suspended);
}

// ---- COPY ----

coro<> postgres::open_copy(std::string statement, bool in) {
    check_sizes(statement, {}, limits);
    session_->check_alive(statement);
    const std::string word = first_word(statement);
    if (word != "copy") throw std::invalid_argument("copy_in() and copy_out() run a COPY, no other statement");
    stream_ = std::make_unique<job>(
        in ? form::copy_in : form::copy_out, on_cancel::interrupt, std::move(statement), std::vector<parameter>());
    if (!in) co_return;
    job& j = *stream_;
    while (!j.done && !j.copying) co_await job_wait(*session_, j);
}

coro<> postgres::send_copy(std::string piece) {
    job& j = *stream_;
    constexpr std::size_t most = 1 << 20;  // of a message, so that a large piece is no burden for the server
    for (std::size_t at = 0; at < piece.size(); at += most) {
        if (j.done || !j.copying) break;
        session_->copy_data(std::string_view(piece).substr(at, most));
        while (!session_->has_room() && !j.done && j.copying) co_await job_wait(*session_, j);
    }
    if (j.failed) throw *j.failed;
}

coro<table_ptr> postgres::end_copy(std::string why_not) {
    job& j = *stream_;
    session_->end_copy_in(j, why_not);
    while (!j.done) co_await job_wait(*session_, j);
    const std::unique_ptr<job> ended = std::move(stream_);
    session_->check(*ended);
    if (!ended->result) ended->result = std::make_shared<table>();
    co_return std::move(ended->result);
}

coro<std::string> postgres::fetch_copy() {
    job& j = *stream_;
    for (;;) {
        if (!j.piece.empty()) {
            std::string piece = std::exchange(j.piece, std::string());
            if (!j.done) session_->taken();
            co_return piece;
        }
        if (j.done) break;
        co_await job_wait(*session_, j);
    }
    const std::unique_ptr<job> ended = std::move(stream_);
    session_->check(*ended);
    co_return std::string();
}

// ---- LISTEN ----

async_generator<notification> postgres::listen(std::string channel) {
    struct hearing : listener {
        explicit hearing(session& s) { s.listen(*this); }
        ~hearing() {
            if (!at) return;
            session& s = *at;
            s.stop_listening(*this);
            try {
                if (!s.hears(channel)) s.command("UNLISTEN " + quoted(channel));
            } catch (const std::bad_alloc&) {  // then the server goes on to send what nobody takes
            }
        }
        hearing(const hearing&) = delete;
    };
    if (channel.empty() || channel.size() > 63) {
        throw std::invalid_argument(
            "the name of a channel has 1 to 63 bytes, and not " + std::to_string(channel.size()));
    }
    session_->check_alive("LISTEN");
    hearing heard(*session_);
    heard.channel = channel;
    co_await execute("LISTEN " + quoted(channel), std::vector<parameter>(), on_cancel::interrupt);
    for (;;) {
        while (!heard.got.empty()) {
            notification n = std::move(heard.got.front());
            heard.got.pop_front();
            co_yield std::move(n);
        }
        if (!heard.at) break;
        co_await heard.came.wait("a notification of PostgreSQL");
    }
    if (!heard.why.empty()) throw error("the connection to PostgreSQL is gone: " + heard.why, "08003", "LISTEN");
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

std::unique_ptr<driver> make_postgres(const std::string& url, connect_options options) {
    return std::make_unique<postgres>(url, options);
}

}  // namespace aio::inline v0::sql
