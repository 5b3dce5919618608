// What the server says, message by message.

#include "sql/postgres/session.hpp"

namespace aio::inline v0::sql {

void session::parse() {
    while (!lost() && in_end_ - in_begin_ >= 5 && !is_full()) {
        const char* const at = in_.get() + in_begin_;
        const char type = *at;
        const std::uint32_t length = reader({at + 1, 4}).int32();
        // Only these may be long: libpq knows by the same rule that it has lost the thread.
        if (length < 4 || (length > 30000 && !std::strchr("TDdVENAtS", type)) || length > 0x7fffffff)
            throw protocol_error("a message of an impossible length");
        if (in_end_ - in_begin_ - 1 < length) break;
        in_begin_ += 1 + length;
        take(type, {at + 5, length - 4});
    }
    if (lost() || flights_.empty()) return;
    job* const j = flights_.front().owner;
    if (j && ((j->how == form::stream && j->result && j->result->row_count > 0) || !j->piece.empty())) tell(*j);
}

void session::take(char type, std::string_view body) {
    if (take_at_any_time(type, body)) return;
    if (current_ >= flights_.size()) throw protocol_error("an answer that nobody has asked for");
    flight& f = flights_[current_];
    if (type == 'Z') {
        if (!f.sync && !group_failed_) throw protocol_error("an end before its time");
        finish_group(reader(body).byte());
    } else if (group_failed_) {
        throw protocol_error("an answer after an error");
    } else if (type == 'd' || type == 'c' || type == 'G' || type == 'H') {
        take_of_copy(f, type, body);
    } else {
        take_of_flight(f, type, body);
    }
}

bool session::take_at_any_time(char type, std::string_view body) {
    switch (type) {
        case 'E': take_error(body); return true;
        case 'N': {
            if (!on_notice) return true;
            report r = read_report(body);
            const notice n{
                std::move(r.severity), std::move(r.code), std::move(r.message), std::move(r.detail), std::move(r.hint)};
            try {
                on_notice(n);
            } catch (...) {
                loop_->report(
                    "exception in the notice handler of a sql::connection", std::current_exception(), nullptr);
            }
            return true;
        }
        case 'A': {
            reader in(body);
            notification n;
            n.backend = static_cast<int>(in.int32());
            n.channel = in.text();
            n.payload = in.text();
            for (listener* l = listeners_.front(); l; l = listeners_.after(*l)) {
                if (l->channel != n.channel) continue;
                l->got.push_back(n);
                l->came.set();
            }
            return true;
        }
        case 'S': return true;  // a setting has changed
        default: return false;
    }
}

/// True if the failure is that of the prepared statement, which the server does not know any more, or cannot use. Then
/// nothing has been done.
bool session::is_stale(const flight& f, const report& r) noexcept {
    if (!f.use) return false;
    if (r.code == "0A000" && r.routine == "RevalidateCachedQuery") {  // a table has got other columns
        if (f.use->at == prepared::stage::ready) to_close_.push_back(f.use->name);
        cache_.drop(*f.use);
        return true;
    }
    if (r.code != "26000" && r.code != "42P05") return false;
    // Once may be a function that has made a DISCARD ALL. A pooler gives the connection other sessions all the time.
    const bool known = f.use->at != prepared::stage::dropped;
    cache_.drop(*f.use);
    if (known && ++stale_ == 3) cache_.switch_off();
    return true;
}

void session::take_error(std::string_view body) {
    const report r = read_report(body);
    if (r.fatal()) farewell_ = r;
    if (flights_.empty()) {
        if (!r.fatal()) throw protocol_error("an error that nobody has asked for");
        return;
    }
    if (current_ >= flights_.size()) throw protocol_error("an error that nobody has asked for");
    flight& f = flights_[current_];
    f.failed = true;
    if (f.how == form::query && !r.fatal()) group_failed_ = true;
    job* const j = f.owner;
    // In a transaction the failure is the transaction's; a neighbour's Parse that has failed is told as it is.
    const bool stale = is_stale(f, r);
    if (f.parses && f.use->at == prepared::stage::preparing) cache_.drop(*f.use);
    if (!j) return;
    if (stale && status_ == 'I' && !j->retried && !r.fatal()) j->retry = true;
    if (!j->failed) j->failed = error_of(r, *j->statement);
    j->copying = false;
    if ((j->how == form::stream || j->how == form::many) && !std::exchange(j->ended, true)) {
        if (many_ == j) many_ = nullptr;
        append_empty(out_, 'S');
        write();
    }
    if (!lost() && j->how == form::copy_in) tell(*j);
}

/// Has the job sent once more. False: it was cancelled meanwhile, and has that error.
bool session::send_again(job& j) noexcept {
    if (j.cancelled) {
        try {
            j.failed.emplace("it was cancelled", "57014", *j.statement);
        } catch (const std::bad_alloc&) { j.thrown = std::current_exception(); }
        return false;
    }
    j.failed.reset();
    j.result.reset();
    j.sent = j.retry = false;
    j.by_itself = true;
    return true;
}

/// The job's flight has ended. undone: it was rolled back, because one that has shared its Sync has failed.
void session::end_job(job& j, bool undone, detail::list<job>& once_more) noexcept {
    if (many_ == &j) many_ = nullptr;
    const bool repeats = j.retry || (undone && !j.thrown);
    if (j.retry) j.retried = true;
    if (repeats && send_again(j)) {
        once_more.push_back(j);
    } else {
        complete(j);
    }
}

/// A ReadyForQuery: a flight has ended, or several that have shared a Sync.
void session::finish_group(char status) {
    status_ = status;
    detail::list<job> once_more;
    constexpr std::chrono::milliseconds slow(100);
    constexpr std::chrono::seconds for_a_while(1);
    const bool failed = std::exchange(group_failed_, false);
    const time_point now = flights_.front().sync ? time_point::max() : loop_->now();
    const bool was_slow = now != time_point::max() && group_begun_ < now && now - group_begun_ > slow;
    for (bool last = false; !last;) {
        const flight f = std::move(flights_.front());
        flights_.pop_front();
        last = f.sync || flights_.empty();
        if (was_slow && f.use) f.use->slow_until = now + for_a_while;
        if (f.wanted) --wanted_;
        if (f.how != form::query) --others_;
        if (f.owner) end_job(*f.owner, failed && !f.failed, once_more);
    }
    current_ = 0;
    if (now != time_point::max()) group_begun_ = now;
    if (!once_more.empty()) {
        once_more.splice(line_);
        line_.splice(once_more);
        flush_later();
    }
    if (flights_.empty()) {
        group_begun_ = time_point::max();
        nothing_under_way();
    } else {
        stop_soon();
    }
}

void session::begin_result(flight& f, const row_shape& shape) {
    f.in_result = true;
    job* const j = f.owner;
    if (!j || j->how == form::many || j->thrown) return;
    try {
        j->result = std::make_shared<table>();
        j->result->columns = shape.names;
        j->result->types = shape.types;
    } catch (...) {
        j->thrown = std::current_exception();
        j->result.reset();
    }
}

void session::end_result(flight& f, std::string_view tag) {
    if (tag == "COMMIT" || tag == "PREPARE TRANSACTION" || tag == "ROLLBACK") last_end_ = tag;
    if (tag == "DISCARD ALL" || tag == "DEALLOCATE ALL") cache_.clear();
    job* const j = f.owner;
    const bool without_rows = !std::exchange(f.in_result, false);
    if (!f.sync) ++current_;
    if (!j || j->thrown) return;
    try {
        if (j->how == form::many || j->how == form::stream ? !j->result : without_rows)
            j->result = std::make_shared<table>();
        if (!j->result) return;
        j->result->tag = tag;
        j->result->affected = affected_by(tag) + (j->how == form::many ? j->result->affected : 0);
    } catch (...) { j->thrown = std::current_exception(); }
    if (j->how == form::stream && !std::exchange(j->ended, true)) {
        append_empty(out_, 'S');
        write();
    }
}

void session::take_description(flight& f, char type, std::string_view body) {
    if (type == 'T') {
        row_shape shape = read_shape(body);
        if (!f.describes) {
            f.shape = std::move(shape);
            return begin_result(f, f.shape);
        }
        f.use->shape = std::move(shape);
        f.use->has_rows = true;
    }
    if (!f.describes) return;
    if (type == 't') {
        reader in(body);
        std::vector<std::uint32_t> types(in.int16());
        for (std::uint32_t& t : types) t = in.int32();
        f.use->types = std::move(types);
    } else if (f.use->at == prepared::stage::preparing) {
        f.use->at = prepared::stage::ready;
    }
}

void session::take_row(flight& f, std::string_view body) {
    job* const j = f.owner;
    if (!j || j->how == form::many || j->thrown) return;
    if (!j->result) begin_result(f, f.rows());
    if (j->thrown) return;
    if (j->result->columns.size() != f.rows().types.size()) throw protocol_error("a row of another result");
    try {
        read_row(body, f.rows(), f.binary, *j->result);
    } catch (const std::bad_alloc&) {
        j->thrown = std::current_exception();
        j->result.reset();
    }
}

void session::take_of_flight(flight& f, char type, std::string_view body) {
    job* const j = f.owner;
    switch (type) {
        case '1':
        case '3': break;
        case '2':
            if (f.shape_known && f.use->has_rows) begin_result(f, f.use->shape);
            if (f.describes && f.use->has_rows) begin_result(f, f.use->shape);
            break;
        case 't':
        case 'T':
        case 'n': take_description(f, type, body); break;
        case 'D': take_row(f, body); break;
        case 's':
            if (j && j->how == form::stream) {
                j->suspended = true;
                tell(*j);
            }
            break;
        case 'C': end_result(f, reader(body).text()); break;
        case 'I': end_result(f, ""); break;
        default: throw protocol_error("a message of an unknown type");
    }
}

void session::take_of_copy(flight& f, char type, std::string_view body) {
    job* const j = f.owner;
    if (type == 'd') {
        if (j && j->how == form::copy_out && !f.failed && !j->own) j->piece.append(body);
        return;
    }
    if (type == 'c') return;
    if (j && j->how == (type == 'G' ? form::copy_in : form::copy_out)) {
        j->copying = true;
        if (type == 'G') tell(*j);
        return;
    }
    // A COPY that came by another way: it is made to fail, and its data is dropped.
    if (j && !j->failed)
        j->failed.emplace("COPY between client and server needs copy_in() or copy_out()", "0A000", *j->statement);
    if (type != 'G') return;
    message(out_, 'f').text("COPY needs copy_in()");
    if (f.how == form::query || f.how == form::stream || f.how == form::many) append_empty(out_, 'S');
    if (j && (j->how == form::stream || j->how == form::many)) j->ended = true;
    write();
}

}  // namespace aio::inline v0::sql
