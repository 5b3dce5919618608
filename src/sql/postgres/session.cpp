// The pipeline. Jobs stand in a line until they are sent; then each is a flight, until the server's ReadyForQuery ends
// it. Each has a Sync of its own, so that the failure of one is nobody else's. (Prepared statements that only read may
// share one: see may_share().) What the tasks of a turn ask for is sent
// together, when the loop next asks the kernel for news; a job that finds nothing under way is sent at once.
//
// The driver speaks the protocol itself, over the connection that libpq has made. docs/internals/postgres.md has the
// numbers for libpq's pipeline mode.
//
// A cancel does not abandon a query that the server works on: the driver asks the server to stop (PQcancel, over a
// connection of its own, in an errand), and waits for the answer. Such a request names no statement: it stops whatever
// the server's process does when it arrives. So it is made only while nobody wants any of the answers that are under
// way, and nothing more is sent before the request has ended (gate_closed()). PQcancel returns once the server has
// closed the request's connection, which the server does after it has sent the signal to the process; the process takes
// a signal before the next message that it reads, and ignores it while it is idle. A pooler or proxy in between has to
// close the request's connection after the server has, as PgBouncer does. If any of this takes longer than
// cancel_deadline, the connection is closed for good. A query that is cancelled while others want their answers is
// left: its answer is dropped.

#include "sql/postgres/session.hpp"

#include "loop/loop_state.hpp"

#include <aio/errors.hpp>

#include <algorithm>
#include <random>

namespace aio::inline v0::sql {

// ---- jobs ----

job::~job() {
    if (linked()) unlink();
    if (at) at->forget(*this);
}

bool job_wait::await_ready() {
    if (job_->rule != on_cancel::shield) return base::await_ready();
    begin(&detail::require_task());  // begins even under a pending cancel
    if (start()) return true;
    phase_ = detail::phase::parked;
    return false;
}

bool job_wait::start() noexcept {
    job& j = *job_;
    if (!j.at && !j.done) session_->submit(j);
    if (j.done || j.news) {
        j.news = false;
        return true;
    }
    j.waiting = this;
    return false;
}

bool job_wait::unpark() noexcept {
    if (!session_->give_up(*job_)) return false;
    job_->waiting = nullptr;
    return true;
}

bool quiet_wait::await_ready() {
    begin(&detail::require_task());
    if (start()) return true;
    phase_ = detail::phase::parked;
    return false;
}

bool quiet_wait::start() noexcept {
    session& s = *session_;
    if (s.lost() || (s.flights_.empty() && !s.errand_)) return true;
    s.quiet_ = this;
    return false;
}

session::session(connection_ptr conn, std::size_t cached_statements)
    : conn_(std::move(conn)), tls_(nullptr), loop_(&detail::require_loop()), cache_(cached_statements) {
    if (PQsslInUse(conn_.get())) {
#ifdef AIO_TLS
        tls_ = PQgetssl(conn_.get());
#endif
        if (!tls_) throw error("this build of the library has no TLS (AIO_TLS)", "08001");
    }
    PQsetnonblocking(conn_.get(), 1);  // so that PQfinish() does not block either
    std::random_device random;
    // Behind a pooler the names of several clients meet in one process of the server.
    prefix_ = "aio_" + std::to_string(random()) + std::to_string(random()) + "_";
    timer_.owner = this;
    timer_.fire = [](detail::timer_node& t) noexcept { static_cast<timer&>(t).owner->on_timer(); };
    source_.attach(PQsocket(conn_.get()));
}

void session::check(const job& j) const {
    if (j.thrown) std::rethrow_exception(j.thrown);
    if (!j.failed) return;
    detail::task_base& task = detail::require_task();
    // A cancel that was withdrawn meanwhile (uncancel()) does not count.
    if (j.cancelled && task.must_cancel() && j.rule == on_cancel::interrupt && (lost() || j.failed->code() == "57014"))
        task.throw_cancelled();
    throw *j.failed;
}

void session::check_alive(const std::string& statement) const {
    if (lost()) throw error("the connection to PostgreSQL is gone: " + why_gone(), "08003", statement);
}

std::string session::why_gone() const {
    if (!lost_.empty()) return lost_;
    return farewell_ ? error_of(*farewell_, std::string()).what() : "the server has closed it";
}

// ---- the line ----

void session::submit(job& j) {
    j.at = this;
    line_.push_back(j);
    if (lost()) {
        j.unlink();
        fail(j, "the connection to PostgreSQL is gone: ", "08003");
    } else if (flights_.empty() && !gate_closed()) {
        pump();
    } else {
        flush_later();
    }
}

void session::flush_later() noexcept {
    if (!lost() && !linked()) loop_->state().unflushed.push_back(*this);
}

void session::flush() noexcept {
    if (std::exchange(more_to_read_, false)) receive(false);
    pump();
}

/// Sends what may be sent.
void session::pump() noexcept {
    constexpr int most_rounds = 16;  // then others have their turn
    for (int round = 0; !lost(); ++round) {
        if (many_ && has_room()) put_more_sets(*many_);
        try {
            while (may_put()) put(*line_.front());
            close_group();
        } catch (const std::bad_alloc&) { return lose("there is no memory for what has to be sent"); }
        write();
        if (lost() || !has_room() || (!many_ && !may_put())) return;
        if (round == most_rounds) return flush_later();
    }
}

// A Sync makes the server end a transaction and send what it has: that is more work than a small query. So prepared
// statements that only read, and come one after the other outside of a transaction, share one. Nobody sees a
// difference: they get their answers together, when the ReadyForQuery has come. If one of them fails, the others are
// sent once more, each with a Sync of its own, because what they have done was rolled back. A statement that was slow
// shares none for a while, because the others would have to wait for it.
bool session::may_share(const job& j, const prepared* use) const noexcept {
    return use && use->at == prepared::stage::ready && use->reads && !j.by_itself && status_ == 'I' && others_ == 0 &&
        (use->slow_until == time_point::min() || use->slow_until < loop_->now());
}

void session::close_group() {
    if (open_ == 0) return;
    append_empty(out_, 'S');
    flights_.back().sync = true;
    if (open_ > 1 && group_begun_ == time_point::max()) group_begun_ = loop_->now();
    open_ = 0;
}

void session::put(job& j) {
    constexpr std::size_t most_together = 32;
    prepared_ptr use;
    try {
        if (j.how == form::query) use = look_up(j);
    } catch (...) {
        j.unlink();
        j.thrown = std::current_exception();
        return complete(j);
    }
    const bool shares = j.how == form::query && may_share(j, use.get());
    if (!shares) close_group();
    j.unlink();
    const std::size_t mark = out_.size(), before = flights_.size();
    try {
        flight& f = flights_.emplace_back();
        f.owner = &j;
        f.how = j.how;
        f.use = std::move(use);
        switch (j.how) {
            case form::query:
                put_query(j, f);
                f.sync = !shares;
                if (!shares) append_empty(out_, 'S');
                break;
            case form::many: {
                append_parse(out_, "", *j.statement, j.sets->empty() ? std::vector<parameter>() : j.sets->front());
                many_ = &j;
                break;
            }
            case form::stream:
                append_parse(out_, "", *j.statement, *j.parameters);
                append_bind(out_, "", "", *j.parameters, {}, nullptr);
                message(out_, 'D').byte('P').text("");
                next_batch(j);
                break;
            case form::text:
            case form::copy_in:
            case form::copy_out: message(out_, 'Q').text(*j.statement);
        }
    } catch (...) {
        if (flights_.size() > before) flights_.pop_back();
        out_.resize(mark);
        many_ = nullptr;
        j.thrown = std::current_exception();
        complete(j);
        return;
    }
    j.sent = true;
    ++wanted_;
    if (j.how != form::query) ++others_;
    if (shares && ++open_ == most_together) close_group();
    if (j.rule == on_cancel::shield) {  // a rollback gets no more time than a statement that was cancelled
        deadline_ = loop_->now() + cancel_deadline;
        rolling_back_ = true;
        set_timer();
    }
    if (many_ == &j) put_more_sets(j);
}

namespace {

/// What tells statements apart: bytes among the parameters are told to the server by their type.
std::string key_of(const job& j) {
    std::string key = *j.statement;
    for (std::size_t i = 0; i < j.parameters->size(); ++i) {
        if ((*j.parameters)[i].type() == parameter::kind::blob) key += '\0' + std::to_string(i);
    }
    return key;
}

bool has_bytes(const std::vector<parameter>& parameters) noexcept {
    for (const parameter& p : parameters) {
        if (p.type() == parameter::kind::blob) return true;
    }
    return false;
}

constexpr std::size_t longest_cached = 16 * 1024;  // a longer statement is hardly used twice

}  // namespace

/// Finds the statement in the cache, or notes it there and gives null.
prepared_ptr session::look_up(const job& j) {
    if (!cache_.on() || j.retried || j.statement->size() > longest_cached) return nullptr;
    prepared_ptr use = has_bytes(*j.parameters) ? cache_.find(key_of(j)) : cache_.find(*j.statement);
    if (use) return use;
    const prepared_ptr out = cache_.add(key_of(j));
    if (out && !out->name.empty()) to_close_.push_back(out->name);
    return nullptr;
}

// The first use of a statement goes by the unnamed one, and the second prepares it, in the same round trip: statements
// that are used once cost nothing more, neither here nor in the server. From the third use on the columns are known,
// and each comes in the format that is cheaper.
void session::put_query(job& j, flight& f) {
    for (const std::string& name : to_close_) message(out_, 'C').byte('S').text(name);
    to_close_.clear();
    const std::vector<parameter>& parameters = *j.parameters;
    if (!f.use) {
        append_parse(out_, "", *j.statement, parameters);
        append_bind(out_, "", "", parameters, {}, nullptr);
        message(out_, 'D').byte('P').text("");
    } else if (f.use->at == prepared::stage::seen) {
        f.use->name = prefix_ + std::to_string(++names_);
        append_parse(out_, f.use->name, *j.statement, parameters);
        message(out_, 'D').byte('S').text(f.use->name);
        append_bind(out_, "", f.use->name, parameters, {}, nullptr);
        f.parses = f.describes = true;
        f.use->at = prepared::stage::preparing;
        f.use->reads = only_reads(*j.statement);
    } else if (f.use->at == prepared::stage::preparing) {
        append_bind(out_, "", f.use->name, parameters, {}, nullptr);
        message(out_, 'D').byte('P').text("");
    } else {
        append_bind(out_, "", f.use->name, parameters, f.use->types, &f.use->shape);
        f.shape_known = f.binary = true;
    }
    message(out_, 'E').text("").int32(0);
}

void session::put_more_sets(job& j) {
    try {
        for (; j.sets_sent < j.sets->size() && has_room(); ++j.sets_sent) {
            const std::size_t mark = out_.size();
            try {
                append_bind(out_, "", "", (*j.sets)[j.sets_sent], {}, nullptr);
                message(out_, 'E').text("").int32(0);
            } catch (...) {
                out_.resize(mark);
                throw;
            }
        }
        if (j.sets_sent < j.sets->size()) return;
        append_empty(out_, 'S');
    } catch (const std::bad_alloc&) { return lose("there is no memory for what has to be sent"); }
    j.ended = true;
    many_ = nullptr;
}

/// The rows of a stream are asked for in batches: the server waits between them.
void session::next_batch(job& stream) {
    constexpr std::uint32_t rows = 256;
    message(out_, 'E').text("").int32(rows);
    append_empty(out_, 'H');
    stream.suspended = false;
    if (stream.sent) write();
}

void session::copy_data(std::string_view piece) {
    message(out_, 'd').bytes(piece);
    write();
}

void session::end_copy_in(job& copy, std::string_view why_not) {
    if (!copy.copying) return;
    copy.copying = false;
    if (why_not.empty()) {
        append_empty(out_, 'c');
    } else {
        message(out_, 'f').text(why_not);
        copy.rule = on_cancel::shield;
        deadline_ = loop_->now() + cancel_deadline;
        set_timer();
    }
    write();
}

void session::taken() {
    parse();
    receive(false);
}

void session::command(std::string text) {
    auto own = std::make_unique<job>(form::text, on_cancel::complete, std::move(text), std::vector<parameter>());
    if (lost()) return;
    own->own = true;
    own->at = this;
    line_.push_front(*own.release());
    flush_later();
}

session::flight* session::flight_of(const job& j) noexcept {
    for (flight& f : flights_) {
        if (f.owner == &j) return &f;
    }
    return nullptr;
}

/// The job is about to be destroyed.
void session::forget(job& j) noexcept {
    flight* const f = flight_of(j);
    if (many_ == &j) {  // what was sent must not be carried out: the end of an incomplete pipeline would commit it
        many_ = nullptr;
        return lose("an operation on it was broken off");
    }
    if (!f) return;
    f->owner = nullptr;
    if (j.how == form::stream || j.how == form::copy_in) return lose("an operation on it was broken off");
    unwant(*f);
    stop_soon();
}

void session::leave(std::unique_ptr<job> j) noexcept {
    if (!j->sent || j->done || lost()) return;
    flight* const f = flight_of(*j);
    if (!f) return;
    const bool at_work = !j->suspended;
    try {
        if (j->how == form::stream && !std::exchange(j->ended, true)) {
            message(out_, 'C').byte('P').text("");
            append_empty(out_, 'S');
        }
        if (j->how == form::copy_in) end_copy_in(*j, "it was left");
    } catch (const std::bad_alloc&) { return lose("there is no memory for what has to be sent"); }
    j->own = true;
    j->result.reset();
    j->piece.clear();
    static_cast<void>(j.release());
    if (at_work) {
        unwant(*f);
        stop();
    }
    write();
    if (!lost()) receive(false);
}

// A cancel of who waits for the job. True: it waits no more.
bool session::give_up(job& j) noexcept {
    if (!j.sent) {
        if (j.rule == on_cancel::shield) return false;
        if (j.linked()) j.unlink();
        j.at = nullptr;
        return true;
    }
    j.cancelled = true;
    if (j.rule == on_cancel::shield) return false;
    if (j.rule == on_cancel::complete) {
        if (deadline_ == time_point::max()) deadline_ = loop_->now() + cancel_deadline;
        set_timer();
        return false;
    }
    flight* const f = flight_of(j);
    if (!f) return false;
    unwant(*f);
    if (wanted_ == 0 || (j.how != form::query && j.how != form::text)) {
        stop();
        return false;
    }
    f->owner = nullptr;
    j.at = nullptr;
    return true;
}

void session::unwant(flight& f) noexcept {
    if (std::exchange(f.wanted, false)) --wanted_;
}

/// A stream goes on although a cancel has come to an earlier call.
void session::want_again(job& stream) noexcept {
    if (!std::exchange(stream.cancelled, false)) return;
    flight* const f = flight_of(stream);
    if (!f || f->wanted) return;
    f->wanted = true;
    ++wanted_;
    deadline_ = cancel_again_ = time_point::max();
    set_timer();
}

void session::complete(job& j) noexcept {
    j.done = true;
    j.at = nullptr;
    tell(j);
    if (j.own) delete &j;
}

void session::tell(job& j) noexcept {
    j.news = true;
    if (job_wait* const w = std::exchange(j.waiting, nullptr)) w->wake();
}

// ---- stopping ----

/// Asks the server to cancel, if nobody wants what is under way. The server ignores a request that arrives before the
/// statement has begun there, so it is repeated, after growing pauses, until it has had an effect.
void session::stop() noexcept {
    if (lost() || !nothing_wanted()) return;
    stopping_ = true;
    if (deadline_ == time_point::max()) deadline_ = loop_->now() + cancel_deadline;
    if (!errand_) ask_to_cancel();
    set_timer();
}

/// The same, but what has been left has some milliseconds to end by itself.
void session::stop_soon() noexcept {
    if (lost() || !nothing_wanted() || stopping_) return;
    cancel_again_ = loop_->now() + cancel_pause_;
    set_timer();
}

void session::stop_all() noexcept {
    for (flight& f : flights_) unwant(f);
    stop();
}

void session::ask_to_cancel() noexcept {
    struct closer {
        void operator()(PGcancel* c) const noexcept { PQfreeCancel(c); }
    };
    try {
        cancel_again_ = loop_->now() + cancel_pause_;
        cancel_pause_ = std::min(cancel_pause_ * 2, std::chrono::milliseconds(500));
        std::unique_ptr<PGcancel, closer> request(PQgetCancel(conn_.get()));
        if (!request) return;  // then the deadline ends the wait
        auto ask = [owned = std::move(request)] {
            char why[256];
            PQcancel(owned.get(), why, sizeof why);
        };
        errand_ = errand::start(*this, std::move(ask));
    } catch (...) {  // then the deadline ends the wait
    }
}

void session::errand_done() noexcept {
    errand_.reset();
    if (flights_.empty()) return nothing_under_way();
    set_timer();
    flush_later();
}

void session::nothing_under_way() noexcept {
    stopping_ = rolling_back_ = false;
    cancel_pause_ = std::chrono::milliseconds(5);
    if (errand_) {
        if (deadline_ == time_point::max()) deadline_ = loop_->now() + cancel_deadline;
        return set_timer();
    }
    if (deadline_ != time_point::max() || cancel_again_ != time_point::max()) {
        deadline_ = cancel_again_ = time_point::max();
        set_timer();
    }
    if (!line_.empty()) flush_later();
    if (quiet_wait* const w = std::exchange(quiet_, nullptr)) w->wake();
}

void session::set_timer() noexcept {
    const time_point until = !errand_ && nothing_wanted() ? std::min(deadline_, cancel_again_) : deadline_;
    loop_->disarm(timer_);
    if (until != time_point::max()) loop_->arm(timer_, until);
}

void session::on_timer() noexcept {
    const time_point now = loop_->now();
    if (now >= deadline_) {
        return lose_because([this] {
            const char* const what = flights_.empty() ? "a request to cancel did not end within "
                : rolling_back_                       ? "the server did not answer to a rollback within "
                                                      : "the server did not end a cancelled statement within ";
            return what + std::to_string(cancel_deadline.count()) + " seconds";
        });
    }
    if (!errand_ && nothing_wanted() && now >= cancel_again_) stop();
    set_timer();
}

/// The connection has ended. All who wait hear of it.
void session::lose(std::string_view why) noexcept {
    if (lost()) return;
    try {
        lost_ = why;
    } catch (const std::bad_alloc&) { lost_ = "no memory"; }  // which needs none
    shut();
}

/// Ends a job because the connection has ended. before: the beginning of the error's text.
void session::fail(job& j, std::string_view before, const char* code) noexcept {
    try {
        if (farewell_ && j.sent) {
            j.failed = error_of(*farewell_, *j.statement);
        } else {
            j.failed.emplace(std::string(before) + why_gone(), code, *j.statement);
        }
    } catch (const std::bad_alloc&) { j.thrown = std::current_exception(); }
    complete(j);
}

void session::shut() noexcept {
    if (lost()) return;
    const bool closed = lost_.empty();
    if (closed) lost_ = "it was closed";
    if (errand_) std::exchange(errand_, nullptr)->abandon();
    if (linked()) unlink();
    if (!loop_->closed) loop_->disarm(timer_);
    const connection_ptr conn = std::move(conn_);
    source_.detach();
    parked_[0] = parked_[1] = false;
    many_ = nullptr;
    wanted_ = 0;
    while (!flights_.empty()) {
        const flight f = std::move(flights_.front());
        flights_.pop_front();
        if (!f.owner) continue;
        job& j = *f.owner;
        if (j.failed || j.thrown) {
            complete(j);
        } else {
            fail(j, "the connection to PostgreSQL is lost: ", "08006");
        }
    }
    while (job* const j = line_.pop_front()) { fail(*j, "the connection to PostgreSQL is gone: ", "08003"); }
    while (listener* const l = listeners_.pop_front()) {
        l->at = nullptr;
        try {
            if (!closed) l->why = why_gone();
        } catch (const std::bad_alloc&) { l->why = "no memory"; }
        l->came.set();
    }
    hearing_ = 0;
    if (quiet_wait* const w = std::exchange(quiet_, nullptr)) w->wake();
}

bool session::look() {
    // While nothing is under way the server only says that it goes away: first a message, then the end.
    if (!lost() && flights_.empty()) receive(true);
    return !lost();
}

// ---- listening ----

void session::listen(listener& l) {
    l.at = this;
    listeners_.push_back(l);
    ++hearing_;
    watch();
}

void session::stop_listening(listener& l) noexcept {
    l.unlink();
    l.at = nullptr;
    --hearing_;
    watch();
}

}  // namespace aio::inline v0::sql
