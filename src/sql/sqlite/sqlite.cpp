// The driver of SQLite, which connection.cpp makes for a URL. Each connection has a thread, and everything that touches
// the database runs there (database.cpp); a call is a job of that thread.

#include "sql/sqlite/database.hpp"

#include "loop/loop_state.hpp"

namespace aio::inline v0::sql {
namespace {

/// Runs fn() in the database's thread and waits for its end. The rule says what a cancel does: see on_cancel.
template<class F>
class [[nodiscard]] database_call final : public detail::blocking_base {
public:
    using value_type = std::invoke_result_t<F&>;

    database_call(detail::blocking_pool& thread, sqlite_database& db, on_cancel rule, F fn)
        : blocking_base(thread, "SQLite", &call), db_(&db), rule_(rule), fn_(std::move(fn)) {}

    bool await_ready() {
        db_->allow();
        if (rule_ != on_cancel::shield) return blocking_base::await_ready();
        begin(&detail::require_task());
        return start();
    }
    detail::cancel_reply cancel(const std::string& message) noexcept override {
        if (rule_ == on_cancel::shield) return detail::cancel_reply::refused;
        const detail::cancel_reply reply = blocking_base::cancel(message);
        if (reply == detail::cancel_reply::refused && rule_ == on_cancel::interrupt && parked()) db_->interrupt();
        return reply;
    }
    value_type await_resume() {
        blocking_base::await_resume();
        if (interrupted_) {
            if (task_->must_cancel()) task_->throw_cancelled();
            throw error("the statement was interrupted by a cancel that was withdrawn", "SQLITE_INTERRUPT");
        }
        return std::move(outcome_).value();
    }

private:
    static void call(detail::blocking_job& job) noexcept {
        auto& self = static_cast<database_call&>(job);
        try {
            detail::keep_value(self.outcome_, self.fn_);
        } catch (const interrupted&) { self.interrupted_ = true; } catch (...) {
            self.outcome_.set_error(std::current_exception());
        }
    }
    sqlite_database* db_;
    on_cancel rule_;
    bool interrupted_ = false;
    F fn_;
    result<value_type> outcome_;
};

/// Closes a database whose driver was destroyed without close(), on a thread of the file pool, so that nobody waits for
/// it.
struct late_close : detail::blocking_job {
    std::unique_ptr<detail::blocking_pool> thread;
    std::unique_ptr<sqlite_database> db;
};

/// Gives back the locks that SELECTs on the loop's thread have kept (no_waiting.hpp): when the loop looks outside and
/// none of them has run since its last look, before a job for the thread, and at the end of the loop.
class lock_return final : public detail::flushable {
public:
    explicit lock_return(sqlite_database& db) noexcept : db_(db) {
        end_.owner = this;
        end_.loop_ended = [](detail::loop_service& s) noexcept { static_cast<loop_end&>(s).owner->now(); };
    }
    ~lock_return() = default;
    lock_return(const lock_return&) = delete;
    lock_return& operator=(const lock_return&) = delete;

    /// A SELECT has run.
    void later() noexcept {
        used_ = true;
        if (linked() || !db_.keeps_locks()) return;
        detail::loop_state& loop = detail::local().loop->state();
        loop.unflushed.push_back(*this);
        loop.services.push_back(end_);
    }
    void now() noexcept {
        if (linked()) unlink();
        if (end_.linked()) end_.unlink();
        db_.release_locks();
    }

private:
    struct loop_end : detail::loop_service {
        lock_return* owner = nullptr;
    };
    void flush() noexcept override {
        if (!std::exchange(used_, false)) return now();
        detail::local().loop->state().unflushed.push_back(*this);
    }
    sqlite_database& db_;
    loop_end end_;
    bool used_ = false;
};

class sqlite final : public driver {
    template<class F>
    auto call(on_cancel rule, F fn) {
        locks_.now();
        return database_call<F>(*thread_, *db_, rule, std::move(fn));
    }

public:
    explicit sqlite(sqlite_settings settings)
        : db_(std::make_unique<sqlite_database>(std::move(settings))),
          thread_(std::make_unique<detail::blocking_pool>(1, "aio-sqlite")) {}
    ~sqlite() override {
        locks_.now();
        if (!open_) return;
        late_close* const job = late_.release();
        job->thread = std::move(thread_);
        job->db = std::move(db_);
        job->run = [](detail::blocking_job& j) noexcept {
            auto& self = static_cast<late_close&>(j);
            self.thread->join_threads();
            self.db->close();
        };
        job->orphaned = [](detail::blocking_job& j) noexcept { delete &static_cast<late_close&>(j); };
        try {
            detail::file_pool().submit(*job);
        } catch (...) {  // no thread can be started: then the loop's thread waits
            job->run(*job);
            delete job;
        }
    }

    coro<> open() override {
        bool read_only = false;
        auto fn = [&] {
            db_->open();
            read_only = db_->read_only();
            open_ = true;
        };
        auto opening = call(on_cancel::complete, fn);
        co_await opening;
        read_only_ = read_only;
    }

    coro<table_ptr> execute(std::string statement, std::vector<parameter> parameters, on_cancel rule) override {
        if (rule == on_cancel::interrupt && may_use_here()) {
            const noting note{*this};
            if (table_ptr t = db_->execute_here(statement, parameters)) {
                locks_.later();
                co_return t;
            }
        }
        auto fn = [&] {
            const noting note{*this};
            return db_->execute(statement, parameters);
        };
        auto executing = call(rule, fn);
        table_ptr t = co_await executing;
        dropping_ = false;
        co_return t;
    }

    coro<table_ptr> execute_many(std::string statement, std::vector<std::vector<parameter>> sets) override {
        auto fn = [&] {
            const noting note{*this};
            return db_->execute_many(statement, sets);
        };
        auto executing = call(on_cancel::interrupt, fn);
        co_return co_await executing;
    }

    coro<> open_stream(std::string statement, std::vector<parameter> parameters) override {
        stream_parameters_ = std::move(parameters);  // bound without a copy: they live as long as the stream
        auto fn = [&] { db_->open_stream(std::move(statement), stream_parameters_); };
        auto opening = call(on_cancel::interrupt, fn);
        co_await opening;
        streaming_ = true;
    }

    coro<table_ptr> fetch() override {
        auto fn = [&] {
            const noting note{*this};
            return db_->fetch();
        };
        auto fetching = call(on_cancel::interrupt, fn);
        table_ptr rows = co_await fetching;
        if (!rows) streaming_ = false;
        co_return rows;
    }

    void drop_stream() noexcept override {
        if (!std::exchange(streaming_, false)) return;
        dropping_ = true;
        locks_.now();
        db_->drop_stream(*thread_);
    }

    coro<> close() override {
        if (!open_) co_return;
        auto fn = [&] { db_->close(); };
        auto closing = call(on_cancel::shield, fn);
        co_await closing;
        open_ = false;
        thread_->join_threads();  // the thread is idle, so this takes no time
    }

    void for_pool() noexcept override { db_->prefer_wal(); }

    coro<> back_up(std::string path, detail::function<void(std::size_t, std::size_t)> progress) override {
        constexpr int pages = 256;  // in one job, so that a cancel and a report of progress have their turn
        auto begin = [&] { db_->begin_backup(path); };
        auto beginning = call(on_cancel::interrupt, begin);
        co_await beginning;
        std::exception_ptr failed;
        try {
            backup_step step;
            auto copy = [&] { return db_->step_backup(pages); };
            while (!step.complete) {
                auto copying = call(on_cancel::interrupt, copy);
                step = co_await copying;
                if (progress) progress(step.done, step.total);
            }
        } catch (...) { failed = std::current_exception(); }
        auto end = [&] { db_->end_backup(!failed); };
        auto ending = call(on_cancel::shield, end);
        co_await ending;
        if (failed) std::rethrow_exception(failed);
    }

    bool usable() noexcept override { return open_; }
    bool in_transaction() const noexcept override { return in_transaction_; }
    std::string begin_statement(const transaction_options& options) const override {
        return read_only_ || options.read_only ? "BEGIN" : "BEGIN IMMEDIATE";
    }
    ending ended() const noexcept override { return ended_; }
    const char* ended_code() const noexcept override {
        return ended_ == ending::committed ? "SQLITE_MISUSE" : "SQLITE_ABORT_ROLLBACK";
    }

private:
    /// True if the thread has nothing to do, and a task may run a statement on the loop's thread: one with a pending
    /// cancel may not. A statement costs much of what a task may do in one step.
    bool may_use_here() const {
        if (!open_ || dropping_ || detail::require_task().must_cancel()) return false;
        detail::local().budget -= 16;
        return true;
    }

    /// Notes, in the thread, how a statement has left the transaction; the loop's thread reads that after the job.
    struct noting {
        sqlite& self;
        ~noting() {
            self.in_transaction_ = self.db_->in_transaction();
            self.ended_ = self.db_->ended();
        }
    };

    std::unique_ptr<sqlite_database> db_;
    lock_return locks_{*db_};
    std::unique_ptr<detail::blocking_pool> thread_;
    std::unique_ptr<late_close> late_ = std::make_unique<late_close>();  // for the destructor, which may not fail
    std::vector<parameter> stream_parameters_;
    bool open_ = false;
    bool read_only_ = false;
    bool in_transaction_ = false;
    ending ended_ = ending::committed;
    bool streaming_ = false;
    bool dropping_ = false;  // the thread may still be ending a stream
};

}  // namespace

std::unique_ptr<driver> make_sqlite(const std::string& url, connect_options options) {
    return std::make_unique<sqlite>(read_sqlite_url(url, options));
}

}  // namespace aio::inline v0::sql
