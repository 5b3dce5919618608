// The operations behind aio::stream, and the state that they share; stream_state.hpp has their classes and the rules.
// What carries the bytes is a transport (transport.hpp).
//
// Reads and writes are independent of each other. One task at a time may read, and a second one is told of its mistake;
// write operations stand in a line, and the whole line is handed to the transport at once, so the bytes of two writes
// never mix. aclose() stands in the same line, and so closes the stream behind what is being written.
//
// A write that is cancelled after a part of its bytes has been sent leaves the stream torn: the peer would take
// whatever came next for the rest, so the stream can only be closed.

#include "io/tls.hpp"
#include "io/transport.hpp"
#include "loop/loop_state.hpp"

#include <aio/stream.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

namespace aio::inline v0 {
namespace detail {

namespace {
constexpr std::size_t largest_chunk = 256 * 1024, largest_write = 4 * largest_chunk;
// A peer that is faster than we are must not keep a task in one step for ever (see What differs from asyncio, (j)).
constexpr int calls_in_a_row = 16;
}  // namespace

char* byte_buffer::room_for(std::size_t n) {
    if (capacity_ - end_ >= n) return memory_ + end_;
    if (capacity_ - size() >= n && begin_ >= size()) {  // moving is cheap: no more is moved than was consumed
        std::memcpy(memory_, memory_ + begin_, size());
    } else {
        const std::size_t larger = std::max(size() + n, 2 * size());
        char* const memory = static_cast<char*>(allocate(larger));
        if (size() > 0) std::memcpy(memory, memory_ + begin_, size());
        if (memory_) deallocate(memory_, capacity_);
        memory_ = memory;
        capacity_ = larger;
    }
    end_ -= begin_;
    begin_ = 0;
    return memory_ + end_;
}

void byte_buffer::release() noexcept {
    if (memory_) deallocate(memory_, capacity_);
    memory_ = nullptr;
    begin_ = end_ = capacity_ = 0;
}

// ---- the state ----

stream_state::stream_state(transport_ptr io, std::string peer_address, std::size_t line_limit) noexcept
    : peer(std::move(peer_address)), limit(line_limit), io_(std::move(io)) {}

stream_state::~stream_state() { close(false); }

loop_core* stream_state::loop() const noexcept { return io_ ? io_->loop() : nullptr; }
std::string stream_state::local() const { return io_ ? io_->local() : std::string(); }
int stream_state::descriptor() const noexcept { return io_ ? io_->descriptor() : -1; }
bool stream_state::finishes_output() const noexcept { return io_ && io_->finishes_output(); }
passed_descriptors* stream_state::passed() noexcept { return io_ ? io_->passed() : nullptr; }
bool stream_state::sends_files() const noexcept { return io_ && io_->sends_files(); }

void stream_state::close(bool abort) noexcept {
    if (!io_) return;
    if (!abort && flush_.linked()) {
        const stream_ptr keep(this);  // write_line() may close the stream
        send_collected();
        if (!io_) return;
    }
    if (std::exchange(waits_for_room_, false)) io_->stop_waiting(direction::write);
    if (!abort && ends_well()) io_->say_goodbye(false);
    const transport_ptr io = std::move(io_);  // closed() is true for everybody who hears of it
    if (flush_.linked()) flush_.unlink();
    io->close(abort);  // wakes the reader
    while (write_operation* w = writers_.front()) w->look_again();
    if (server) connection_closed(*this);  // may destroy this object
}

void stream_state::abort() noexcept {
    if (closed()) return;
    read_error = write_error = ECONNABORTED;
    buffer.release();
    eof = false;
    close(true);
}

void stream_state::close_when_written() noexcept {
    closing = true;
    if (writers_.empty()) close(false);
}

void stream_state::end_writing() noexcept {
    write_eof = true;
    if (io_ && writers_.empty()) io_->shut_down_writing();
}

// ---- the state: reading ----

io_result stream_state::read_once(char* into, std::size_t size) noexcept {
    const io_result r = io_->read(into, size);
    if (r.status == io_status::failed) read_error = r.error;
    if (r.status == io_status::ended) end_reached();
    return r;
}

bool stream_state::receive(std::size_t wanted) noexcept {
    chunk_ = std::max(chunk_, std::min(wanted, largest_chunk));
    char* room;
    try {
        room = buffer.room_for(chunk_);
    } catch (...) {
        no_memory = true;
        return true;
    }
    const io_result r = read_once(room, chunk_);
    if (r.status == io_status::would_block) {
        if (buffer.size() == 0) buffer.release();  // an idle connection costs no buffer
        return false;
    }
    buffer.filled(r.bytes);
    if (r.bytes == chunk_) chunk_ = std::min(2 * chunk_, largest_chunk);
    return true;
}

// The kernel tells of a reset once, to a read or a write, whichever comes first; later reads only see the end. So a
// reader gets the error that a write has seen before.
void stream_state::end_reached() noexcept {
    if (write_error != 0 && write_error != EPIPE) {
        read_error = write_error;
    } else {
        eof = true;
    }
}

void stream_state::wait_to_read(io_waiter w) noexcept { io_->wait(direction::read, w); }

void stream_state::stop_reading(const operation& op) noexcept {
    if (reader != &op) return;
    reader = nullptr;
    if (io_) io_->stop_waiting(direction::read);
}

// ---- the state: writing ----

// The first write since the loop has looked outside goes out at once. What other tasks write until the next look is
// collected, and goes out together: a system call costs more than a task's going to sleep. A task that writes again and
// again is not kept from it.
void stream_state::join_writers(write_operation& op) noexcept {
    if (op.in_place_of_holder()) {
        writers_.push_front(op);
        return write_line();
    }
    if (!writers_.empty() || op.holds()) return writers_.push_back(op);
    const std::uint64_t look = loop()->state().looks;
    if (written_at_look_ == look && last_writer_ != op.task() && !op.closes()) {
        writers_.push_back(op);
        return flush_later();
    }
    written_at_look_ = look;
    last_writer_ = op.task();
    if (const std::string_view all = op.rest(); !all.empty() && !op.closes()) {  // mostly one call takes all of it
        const iovec part = {const_cast<char*>(all.data()), std::min(all.size(), largest_write)};
        const io_result r = io_->write(&part, 1);
        op.sent(r.bytes);
        if (r.bytes == all.size() && !io_->holds_output()) return;
        if (r.status == io_status::failed) write_error = r.error;
    }
    writers_.push_back(op);
    write_line();
}

bool stream_state::is_first(const write_operation& op) const noexcept { return writers_.front() == &op; }

void stream_state::cancel_write(write_operation& op, std::size_t torn) noexcept {
    if (torn != 0) torn_at = torn;
    op.unlink();
    if (writers_.empty() || torn != 0 || op.holds()) write_line();
}

void stream_state::flush_later() noexcept {
    if (!flush_.linked()) io_->loop()->state().unflushed.push_back(flush_);
}

// Collecting must not be noticed: what would have been sent at once is not lost by a cancel or a close that comes
// before the flush. The child of a fork() sends nothing that its parent sends as well.
void stream_state::send_collected() noexcept {
    if (!flush_.linked() || loop()->closed || loop()->state().forked()) return;
    write_line();
}

void stream_state::flush_link::flush() noexcept {
    const stream_ptr keep(&stream);
    stream.write_line();
}

// Writes what the line has, until the line is empty or there is no room. After the last one, a stream that was to be
// closed or shut down then is.
void stream_state::write_line() noexcept {
    if (std::exchange(waits_for_room_, false)) io_->stop_waiting(direction::write);
    if (flush_.linked()) flush_.unlink();
    for (int calls = 0; write_operation* const first = next_to_write(); ++calls) {
        if (first->closes()) return ends_well() && !io_->say_goodbye(true) ? wait_for_room() : close(false);
        if (calls == calls_in_a_row) return flush_later();
        const io_result r = first->part() ? write_part(*first) : write_once();
        if (r.status == io_status::failed) write_error = r.error;
        if (r.status == io_status::would_block) return wait_for_room();
    }
    if (!writers_.empty()) return;  // a holder is at the head, and has nothing to write yet
    if (closing) {
        close(false);
    } else if (write_eof) {
        io_->shut_down_writing();
    }
}

void stream_state::wait_for_room() noexcept {
    waits_for_room_ = true;
    io_->wait(direction::write, {[](void* s) noexcept { static_cast<stream_state*>(s)->flush_.flush(); }, this});
}

// Ends the operations at the head of the line that have written everything, or cannot. Gives the first one that is
// left, or null.
write_operation* stream_state::next_to_write() noexcept {
    for (;;) {
        write_operation* const first = writers_.front();
        if (!first || first->closes()) return first;
        if (torn_at != 0 || write_error != 0) {
            first->look_again();
        } else if (first->holds()) {
            first->wake();  // it stays in the line
            return nullptr;
        } else if (first->finished() && !io_->holds_output()) {
            first->done();
        } else {
            return first;
        }
    }
}

// One system call for what stands in the line: up to an operation that closes, a number of parts, and a number of
// bytes.
io_result stream_state::write_once() noexcept {
    constexpr int most_parts = 16;
    iovec parts[most_parts];
    int count = 0;
    std::size_t size = 0;
    for (write_operation* w = writers_.front();
        w && !w->closes() && !w->holds() && !w->part() && count < most_parts && size < largest_write;
        w = writers_.after(*w)) {
        const std::string_view rest = w->rest().substr(0, largest_write - size);
        if (rest.empty()) continue;
        parts[count++] = {const_cast<char*>(rest.data()), rest.size()};  // iovec has no const; it is only read
        size += rest.size();
    }
    const io_result r = io_->write(parts, count);
    std::size_t moved = r.bytes;
    for (write_operation* w = writers_.front(); w && moved > 0; w = writers_.after(*w)) {
        const std::size_t n = std::min(moved, w->rest().size());
        w->sent(n);
        moved -= n;
    }
    return r;
}

// An error of the file is none of the stream's: whoever sends the file finds it when he reads.
io_result stream_state::write_part(write_operation& op) noexcept {
    file_part& part = *op.part();
    if (part.passed) {
        const io_result r = io_->pass(part.text, part.size, *part.passed);
        op.sent(r.bytes);
        part.ended = r.status == io_status::moved;
        const bool of_connection = r.error == EPIPE || r.error == ECONNRESET || r.error == ENOTCONN;
        if (r.status != io_status::failed || of_connection) return r;
        part.refused = true;
        part.error = r.error;
        return io_result::moved(0);
    }
    io_result r = io_->send_file(part.fd, part.offset + static_cast<std::int64_t>(op.sent()), part.size - op.sent());
    op.sent(r.bytes);
    part.ended = r.status == io_status::ended;
    if (r.status != io_status::failed) return r;
    for (const int error : {EINVAL, ENOSYS, EOPNOTSUPP, EOVERFLOW, EIO, EBADF, ESPIPE, ESTALE, ENOMEM}) {
        if (r.error == error) part.refused = true;
    }
    return part.refused ? io_result::moved(0) : r;
}

void throw_stream_misuse(stream_misuse misuse, const stream_state* stream) {
    const std::string peer = stream ? stream->peer : std::string();
    switch (misuse) {
        case stream_misuse::other_loop: throw_logic_error("the stream to " + peer + " belongs to another event loop");
        case stream_misuse::second_reader:
            throw_logic_error("a second task reads from the stream to " + peer + " while another one waits for data");
        case stream_misuse::after_eof: throw_logic_error("a write to " + peer + " after write_eof()");
        case stream_misuse::torn:
            throw_logic_error("an earlier write to " + peer + " was cancelled after " +
                std::to_string(stream->torn_at) +
                " bytes of its data: nothing can follow it, the stream can only be closed");
        default: throw_logic_error("this stream is empty: it was default-constructed or moved from");
    }
}

namespace {

// What each read checks first: gives the caller's mistake, or none.
stream_misuse begin_reading(const stream_ptr& stream, const operation& op, const loop_core* loop) noexcept {
    if (!stream) return stream_misuse::no_stream;
    if (!stream->closed() && stream->loop() != loop) return stream_misuse::other_loop;
    if (stream->reader && stream->reader != &op) return stream_misuse::second_reader;
    return stream_misuse::none;
}

void describe_stream(std::string& out, const char* what, const stream_ptr& stream) {
    out += what;
    out += stream ? stream->peer : std::string("an empty stream");
}

}  // namespace

// ---- reading ----

read_operation::read_operation(stream_ptr stream, std::vector<std::string> separators)
    : stream_(std::move(stream)), separators_(std::move(separators)), what_(read_until_what::separator), count_(0) {
    std::sort(separators_.begin(), separators_.end(),
        [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
    if (separators_.front().empty()) throw std::invalid_argument("read_until: a separator is empty");
}

bool read_operation::start() noexcept {
    misuse_ = begin_reading(stream_, *this, task_->loop());
    if (misuse_ != stream_misuse::none) return true;
    stream_state& s = *stream_;
    for (int calls = 0;; ++calls) {
        if (satisfied() || s.eof || s.read_error != 0 || s.no_memory || s.closed()) {
            s.reader = nullptr;
            return true;
        }
        if (calls == calls_in_a_row) {
            s.reader = this;
            start_again();
            return false;
        }
        if (!s.receive(what_ == read_until_what::count ? count_ - s.buffer.size() : 0)) {
            s.wait_for_data(*this);
            return false;
        }
    }
}

void read_operation::unpark() noexcept {
    if (stream_) stream_->stop_reading(*this);
}

bool read_operation::satisfied() noexcept {
    const std::size_t available = stream_->buffer.size();
    switch (what_) {
        case read_until_what::something:
            if (count_ > 0 && available == 0) return false;
            count_ = std::min(count_, available);
            return complete_ = true;
        case read_until_what::end: return false;
        case read_until_what::count: return complete_ = available >= count_;
        default: return find_separator();
    }
}

// True if a separator was found, or would be beyond the limit. Of several the one that ends first wins. The next search
// begins where a separator could still begin.
bool read_operation::find_separator() noexcept {
    const std::string_view data = stream_->buffer.view();
    const bool line = what_ == read_until_what::line;
    const std::size_t shortest = line ? 1 : separators_.front().size();
    const std::size_t longest = line ? 1 : separators_.back().size();
    if (data.size() < scanned_ + shortest) return false;
    std::size_t begin = 0, end = std::string_view::npos;
    for (std::size_t i = 0; i < (line ? 1 : separators_.size()); ++i) {
        const std::string_view separator = line ? std::string_view("\n", 1) : std::string_view(separators_[i]);
        const std::size_t at = data.find(separator, scanned_);
        if (at != std::string_view::npos && at + separator.size() < end) {
            begin = at;
            end = at + separator.size();
        }
    }
    if (end != std::string_view::npos) {
        scanned_ = begin;
        count_ = end;
        overrun_ = begin > stream_->limit;
        return complete_ = true;
    }
    scanned_ = data.size() + 1 > longest ? data.size() + 1 - longest : 0;
    overrun_ = scanned_ > stream_->limit;
    return overrun_;
}

std::string read_operation::finish() {
    if (misuse_ != stream_misuse::none) throw_stream_misuse(misuse_, stream_.get());
    stream_state& s = *stream_;
    const bool no_memory = std::exchange(s.no_memory, false);  // the next read may find some
    if (no_memory && !complete_ && !overrun_) throw std::bad_alloc();
    if (overrun_) {
        if (what_ == read_until_what::line) {  // rule 170
            s.buffer.consume(complete_ ? count_ : s.buffer.size());
        }
        throw limit_overrun_error((complete_ ? "a separator was found after " : "no separator was found in ") +
                std::to_string(scanned_) + " bytes from " + s.peer + "; the limit is " + std::to_string(s.limit),
            scanned_);
    }
    if (complete_) return s.buffer.take(count_);
    if (s.read_error != 0) s.throw_read_error();
    std::string rest = s.buffer.take(s.buffer.size());  // the stream is at its end, or was closed meanwhile
    if (what_ == read_until_what::count || what_ == read_until_what::separator) {
        throw incomplete_read_error(std::move(rest), count_);
    }
    return rest;
}

void read_operation::describe(std::string& out) const { describe_stream(out, "data from ", stream_); }

bool read_some_operation::start() noexcept {
    misuse_ = begin_reading(stream_, *this, task_->loop());
    if (misuse_ != stream_misuse::none) return true;
    stream_state& s = *stream_;
    s.reader = nullptr;
    if (size_ == 0) return true;
    const bool open = s.read_error == 0 && !s.eof && !s.closed();
    if (s.buffer.size() == 0 && open && !fetch()) {
        s.wait_for_data(*this);
        return false;
    }
    if (const std::size_t available = s.buffer.size()) {
        got_ = std::min(available, size_);
        std::memcpy(into_, s.buffer.view().data(), got_);
        s.buffer.consume(got_);
    }
    if (got_ == 0) error_ = s.read_error;
    return true;
}

// Reads once, where nothing is in the buffer. False if there is nothing to read yet. A small read goes through the
// buffer: that has room for more than there mostly is, and so shows that nothing is left.
bool read_some_operation::fetch() noexcept {
    stream_state& s = *stream_;
    if (size_ < stream_state::first_chunk) {
        const bool done = s.receive(0);
        if (!std::exchange(s.no_memory, false)) return done;
    }
    const io_result r = s.read_once(into_, size_);
    if (r.status == io_status::would_block) {
        s.buffer.release();
        return false;
    }
    got_ = r.bytes;
    return true;
}

void read_some_operation::unpark() noexcept {
    if (stream_) stream_->stop_reading(*this);
}

std::size_t read_some_operation::finish() {
    if (misuse_ != stream_misuse::none) throw_stream_misuse(misuse_, stream_.get());
    if (error_ != 0) stream_->throw_read_error();
    return got_;
}

void read_some_operation::describe(std::string& out) const { describe_stream(out, "data from ", stream_); }

// ---- writing ----

bool write_operation::start() noexcept {
    if (refused()) return true;
    joined_ = true;
    stream_->join_writers(*this);
    if (linked()) return holds_ && stream_->is_first(*this);
    if (!finished()) static_cast<void>(refused());  // the write has failed
    return true;
}

// True if there is nothing to do: the stream is closed, or a write cannot be begun or go on. Notes why. A write that
// stood in the line already when write_eof() or close_clients() came may finish.
bool write_operation::refused() noexcept {
    if (!stream_) {
        if (!close_) misuse_ = stream_misuse::no_stream;
        return true;
    }
    const stream_state& s = *stream_;
    if (s.closed()) {
        if (!close_) error_ = s.write_error != 0 ? s.write_error : EPIPE;
        return true;
    }
    if (s.loop() != task_->loop()) {
        misuse_ = stream_misuse::other_loop;
        return true;
    }
    if (close_) return false;
    if (s.write_eof && !joined_) misuse_ = stream_misuse::after_eof;
    if (s.torn_at > 0) misuse_ = stream_misuse::torn;
    error_ = s.closing && !joined_ ? EPIPE : s.write_error;
    return misuse_ != stream_misuse::none || error_ != 0;
}

void write_operation::done() noexcept {
    unlink();
    wake();
}

void write_operation::look_again() noexcept {
    unlink();
    wake_to_retry();
}

void write_operation::leave(std::size_t torn) noexcept {
    if (!stream_ || stream_->closed()) return;
    if (stream_->write_error == 0) stream_->torn_at += torn;
    if (linked()) stream_->cancel_write(*this, 0);
}

void write_operation::unpark() noexcept {
    if (linked()) stream_->cancel_write(*this, sent_);
}

cancel_reply write_operation::cancel(const std::string& message) noexcept {
    if (close_ && stream_) {
        if (linked()) unlink();  // or close() would end it, and the cancel would come too late
        stream_->close(false);
    } else if (linked()) {
        stream_->send_collected();
        if (linked() && sent_ > 0 && stream_->finishes_output()) return cancel_reply::refused;
    }
    return irrevocable<write_operation>::cancel(message);
}

void write_operation::finish() {
    if (misuse_ != stream_misuse::none) throw_stream_misuse(misuse_, stream_.get());
    if (error_ != 0) stream_->throw_write_error(error_);
}

void write_operation::describe(std::string& out) const {
    describe_stream(out, close_ ? "who writes to " : "room to write to ", stream_);
}

}  // namespace detail

// ---- stream ----

stream& stream::operator=(stream&& other) noexcept {
    if (this != &other) {
        drop();
        state_ = std::move(other.state_);
    }
    return *this;
}

void stream::drop() noexcept {
    if (!state_) return;
    detail::stream_state& s = *state_;
    detail::loop_core* const loop = detail::local().loop;
    // A handler of a server need not close its stream, and an error that unwinds the stack is reported elsewhere.
    if (!s.closed() && loop && loop->debug && !s.server && !s.eof && std::uncaught_exceptions() == 0) {
        loop->report(
            [&] { return "the stream to " + s.peer + " was destroyed before it was closed: co_await its aclose()"; },
            nullptr, nullptr);
    }
    s.close(false);
    state_ = {};
}

detail::already_done stream::write_eof() {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    state_->end_writing();
    return {};
}

void stream::abort() {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    const detail::loop_core* const loop = detail::local().loop;
    if (loop && !state_->closed() && state_->loop() != loop) {
        detail::throw_stream_misuse(detail::stream_misuse::other_loop, state_.get());
    }
    state_->abort();
}

std::string stream::peer() const {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    return state_->peer;
}

std::string stream::local() const {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    return state_->local();
}

}  // namespace aio::inline v0
