#pragma once
// What is said to a PostgreSQL server once libpq has connected: the queries of all tasks, in one pipeline.

#include "sql/postgres/connect.hpp"
#include "sql/postgres/protocol.hpp"
#include "sql/postgres/statement_cache.hpp"

#include <aio/detail/base/list.hpp>
#include <aio/detail/group/wakeup.hpp>
#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/loop/timer.hpp>
#include <aio/detail/task/operation.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace aio::inline v0::sql {

class session;
class job_wait;

/// How a job is put to the server.
enum class form : std::uint8_t {
    text,    // several statements in one text: the simple protocol
    query,   // one statement, with parameters
    many,    // one statement, with several sets of parameters
    stream,  // as query, but it pauses after each batch of rows
    copy_in,
    copy_out,
};

/// Something that the server is asked to do, and what has come of it. It lies where its user keeps it, in a coroutine
/// or in the driver, and is given up there: the destructor has the answer dropped.
struct job : detail::list_node {
    form how;
    on_cancel rule;
    const std::string* statement;
    const std::vector<parameter>* parameters = nullptr;
    const std::vector<std::vector<parameter>>* sets = nullptr;
    std::string text;               // the statement, if the job keeps it itself
    std::vector<parameter> values;  // and its parameters
    session* at = nullptr;          // while it is in the line or under way
    job_wait* waiting = nullptr;
    bool own = false;  // the driver's own: deletes itself when it is done

    std::shared_ptr<table> result;
    std::optional<error> failed;
    std::exception_ptr thrown;  // an error of this side, such as no memory for the rows
    std::string piece;          // what a COPY has given
    std::size_t sets_sent = 0;
    bool sent = false;
    bool done = false;
    bool news = false;       // something has come for who waits
    bool suspended = false;  // the stream waits to be asked for more
    bool ended = false;      // the Sync of a stream or of many has been sent
    bool copying = false;    // the server takes data, or gives it
    bool cancelled = false;  // a cancel has come while it was under way
    bool retry = false;      // the prepared statement was the reason of the failure, so it is sent once more
    bool retried = false;
    bool by_itself = false;  // it shares its Sync with no other

    job(form f, on_cancel r, const std::string& t) noexcept : how(f), rule(r), statement(&t) {}
    job(form f, on_cancel r, std::string t, std::vector<parameter> p)
        : how(f), rule(r), statement(&text), parameters(&values), text(std::move(t)), values(std::move(p)) {}
    ~job();
    job(const job&) = delete;
    job& operator=(const job&) = delete;
};

/// Waits until a job is done or has news; puts it into the line first.
class [[nodiscard("co_await it")]] job_wait final : public detail::irrevocable<job_wait> {
    using base = detail::irrevocable<job_wait>;

public:
    job_wait(session& s, job& j) noexcept : session_(&s), job_(&j) {}
    bool await_ready();
    bool start() noexcept;
    bool unpark() noexcept;
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "PostgreSQL"; }

private:
    session* session_;
    job* job_;
};

/// Waits until nothing is under way, not even a request to cancel, or the connection is lost. A cancel stays pending.
class [[nodiscard("co_await it")]] quiet_wait final : public detail::irrevocable<quiet_wait> {
public:
    explicit quiet_wait(session& s) noexcept : session_(&s) {}
    bool await_ready();
    bool start() noexcept;
    bool unpark() noexcept { return false; }
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "PostgreSQL"; }

private:
    session* session_;
};

/// Who hears the notifications of a channel.
struct listener : detail::list_node {
    std::string channel;
    std::deque<notification> got;
    detail::wakeup came;
    session* at = nullptr;  // null once the connection has ended
    std::string why;        // it was lost; empty: it was closed
};

class session final : errand_owner, detail::flushable {
public:
    session(connection_ptr conn, std::size_t cached_statements);
    ~session() { shut(); }

    /// Throws the error of a job that was waited for, if it has one.
    void check(const job& j) const;
    /// Throws sql::error if the connection is gone.
    void check_alive(const std::string& statement) const;
    /// Puts a job of the driver's own before all others, without parameters; nobody waits for it.
    void command(std::string text);
    /// The job is not wanted any more: a stream that was left. It is deleted when the server is done with it.
    void leave(std::unique_ptr<job> j) noexcept;
    void want_again(job& stream) noexcept;
    void next_batch(job& stream);
    void copy_data(std::string_view piece);
    void end_copy_in(job& copy, std::string_view why_not);
    bool has_room() const noexcept { return unsent() < most_unsent; }
    /// The consumer of a COPY has taken what there was.
    void taken();

    bool lost() const noexcept { return !conn_; }
    bool look();  // looks for the server's end where nothing is under way; false: it is lost
    char status() const noexcept { return status_; }
    const std::string& last_end() const noexcept { return last_end_; }
    void stop_all() noexcept;  // what is under way is not wanted any more
    void shut() noexcept;

    void listen(listener& l);
    void stop_listening(listener& l) noexcept;
    bool hears(std::string_view channel) const noexcept {
        const listener* l = listeners_.front();
        while (l && l->channel != channel) l = listeners_.after(*l);
        return l;
    }
    std::string why_gone() const;

    detail::function<void(const notice&)> on_notice;

private:
    friend class job_wait;
    friend class quiet_wait;
    friend struct job;
    static constexpr std::size_t most_unsent = 256 * 1024, most_flights = 4096;

    /// A job under way; null if nobody wants its answer any more.
    struct flight {
        job* owner;
        form how;
        bool wanted = true;
        bool parses = false;       // its Parse makes the prepared statement
        bool describes = false;    // a RowDescription is that of the prepared statement
        bool shape_known = false;  // no RowDescription comes
        bool binary = false;       // rows are in the formats of the shape
        bool in_result = false;    // a result has begun and not ended
        bool failed = false;
        bool sync = true;  // a ReadyForQuery comes after it
        prepared_ptr use;
        row_shape shape;  // if it is not that of the prepared statement
        const row_shape& rows() const noexcept { return use && (shape_known || describes) ? use->shape : shape; }
    };

    // ---- the line ----
    void submit(job& j);
    void pump() noexcept;
    bool may_put() const noexcept {
        return !lost() && !line_.empty() && !gate_closed() && !many_ && has_room() && flights_.size() < most_flights;
    }
    void put(job& j);
    prepared_ptr look_up(const job& j);
    bool may_share(const job& j, const prepared* use) const noexcept;
    void put_query(job& j, flight& f);
    void close_group();
    void put_more_sets(job& j);
    void forget(job& j) noexcept;
    bool give_up(job& j) noexcept;
    /// Nothing is sent behind what nobody wants: it could not be stopped any more.
    bool gate_closed() const noexcept { return errand_ != nullptr || stopping_ || nothing_wanted(); }
    bool nothing_wanted() const noexcept { return wanted_ == 0 && !flights_.empty(); }
    void unwant(flight& f) noexcept;
    flight* flight_of(const job& j) noexcept;
    void complete(job& j) noexcept;
    void tell(job& j) noexcept;
    void finish_group(char status);
    void end_job(job& j, bool undone, detail::list<job>& once_more) noexcept;
    bool send_again(job& j) noexcept;

    // ---- stopping ----
    void stop() noexcept;
    void ask_to_cancel() noexcept;
    void stop_soon() noexcept;
    void set_timer() noexcept;
    void on_timer() noexcept;
    void nothing_under_way() noexcept;
    void errand_done() noexcept override;
    void lose(std::string_view why) noexcept;
    /// The same, for a reason that has to be put together.
    template<class Make>
    void lose_because(Make make) noexcept {
        try {
            lose(make());
        } catch (const std::bad_alloc&) { lose("no memory"); }
    }
    void fail(job& j, std::string_view before, const char* code) noexcept;

    // ---- bytes ----
    std::size_t unsent() const noexcept { return out_.size() - out_at_; }
    void flush() noexcept override;
    void flush_later() noexcept;
    void write() noexcept;
    void receive_once();
    void receive(bool ask_anyway) noexcept;
    void make_room();
    long send_bytes(const char* data, std::size_t size) noexcept;
    long receive_bytes(char* data, std::size_t size) noexcept;
    void watch() noexcept;
    bool is_full() const noexcept;

    // ---- messages ----
    void parse();
    void take(char type, std::string_view body);
    bool take_at_any_time(char type, std::string_view body);
    void take_error(std::string_view body);
    void take_of_flight(flight& f, char type, std::string_view body);
    void take_description(flight& f, char type, std::string_view body);
    void take_row(flight& f, std::string_view body);
    void take_of_copy(flight& f, char type, std::string_view body);
    void begin_result(flight& f, const row_shape& shape);
    void end_result(flight& f, std::string_view tag);
    bool is_stale(const flight& f, const report& r) noexcept;

    connection_ptr conn_;
    void* tls_;  // OpenSSL's SSL, or null
    detail::io_source source_;
    detail::loop_core* loop_;
    bool parked_[2] = {false, false};
    bool write_failed_ = false;
    bool more_to_read_ = false;  // the turn was over before all was read
    std::string out_;
    std::size_t out_at_ = 0;
    std::unique_ptr<char[]> in_;
    std::size_t in_begin_ = 0, in_end_ = 0, in_capacity_ = 0;

    detail::list<job> line_;      // not sent yet
    std::deque<flight> flights_;  // sent, in the order of their answers
    std::size_t wanted_ = 0;      // of the flights
    std::size_t current_ = 0;     // the flight whose answer comes: those before it share its ReadyForQuery
    std::size_t open_ = 0;        // flights at the end that will share a Sync, which has not been put yet
    std::size_t others_ = 0;      // flights that are no queries
    bool group_failed_ = false;
    time_point group_begun_ = time_point::max();
    job* many_ = nullptr;  // whose sets are still being sent
    statement_cache cache_;
    std::string prefix_;  // of the names of prepared statements
    std::size_t names_ = 0;
    std::vector<std::string> to_close_;  // names of prepared statements that nobody needs any more
    int stale_ = 0;                      // how often the server did not know what had been prepared
    char status_ = 'I';
    std::string last_end_;  // the tag of the last COMMIT or ROLLBACK

    std::shared_ptr<errand> errand_;  // a request to cancel
    bool stopping_ = false;           // the server was asked to cancel: nothing is sent before it has ended
    bool rolling_back_ = false;       // the deadline is that of a rollback
    struct timer : detail::timer_node {
        session* owner;
    } timer_;
    time_point deadline_ = time_point::max();
    time_point cancel_again_ = time_point::max();
    std::chrono::milliseconds cancel_pause_{5};
    std::string lost_;                // why the connection is gone
    std::optional<report> farewell_;  // what the server has said before it ended the connection
    quiet_wait* quiet_ = nullptr;
    detail::list<listener> listeners_;
    std::size_t hearing_ = 0;  // listeners
};

}  // namespace aio::inline v0::sql
