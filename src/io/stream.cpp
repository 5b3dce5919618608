// The operations behind aio::stream, and the socket that they share; stream_state.hpp has their classes and the rules.
//
// Reads and writes are independent of each other. One task at a time may read, and a second one is told of its mistake;
// write operations stand in a line (writers), and only the first of them calls the kernel, so the bytes of two writes
// never mix. aclose() stands in the same line, and so closes the stream behind what is being written.
//
// A write that is cancelled after a part of its bytes has been sent leaves the stream torn: the peer would take
// whatever came next for the rest, so the stream can only be closed.

#include "io/resolver.hpp"

#include <aio/stream.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio {
namespace detail {

namespace {
constexpr std::size_t largest_chunk = 256 * 1024;
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

stream_state::stream_state(int descriptor, std::string peer_address, std::size_t line_limit)
    : fd(descriptor), peer(std::move(peer_address)), limit(line_limit) {}

stream_state::~stream_state() { close(false); }

void stream_state::attach() { source.attach(fd); }

void stream_state::close(bool abort) noexcept {
    if (fd < 0) return;
    if (abort) {
        const linger reset{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    source.detach();  // wakes the operations that wait for the kernel
    ::close(fd);
    fd = -1;
    for (write_operation* w = writers.front(); w; w = writers.after(*w)) {
        if (w->parked()) w->wake_to_retry();
    }
    if (server) connection_closed(*this);
}

void stream_state::abort() noexcept {
    if (fd < 0) return;
    read_error = write_error = ECONNABORTED;
    buffer.release();
    eof = false;
    close(true);
}

void stream_state::close_when_written() noexcept {
    if (writers.empty()) {
        close(false);
    } else {
        closing = true;
    }
}

void stream_state::shut_down_writing() noexcept {
    if (fd >= 0) ::shutdown(fd, SHUT_WR);
}

bool stream_state::receive(std::size_t wanted) noexcept {
    chunk_ = std::max(chunk_, std::min(wanted, largest_chunk));
    for (;;) {
        ssize_t n;
        try {
            n = ::recv(fd, buffer.room_for(chunk_), chunk_, 0);
        } catch (...) {
            no_memory = true;
            return true;
        }
        if (n > 0) {
            buffer.filled(static_cast<std::size_t>(n));
            if (static_cast<std::size_t>(n) == chunk_) chunk_ = std::min(2 * chunk_, largest_chunk);
            return true;
        }
        if (n == 0) {
            end_reached();
            return true;
        }
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (buffer.size() == 0) buffer.release();  // an idle connection costs no buffer
            return false;
        }
        read_error = errno;
        return true;
    }
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

// The first writer has finished or given up: the next one goes on. After the last one, a stream that was to be closed
// or shut down then is.
void stream_state::next_writer() noexcept {
    if (write_operation* following = writers.front()) {
        if (following->parked() && !source.busy(1)) following->wake_to_retry();
    } else if (closing) {
        close(false);
    } else if (write_eof) {
        shut_down_writing();
    }
}

std::string stream_state::local() const {
    if (fd < 0) return {};
    address own;
    own.length = sizeof own.storage;
    if (::getsockname(fd, own.get(), &own.length) != 0) return {};
    return own.text();
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
    if (stream->source.attached() && stream->source.loop() != loop) return stream_misuse::other_loop;
    if (stream->reader && stream->reader != &op) return stream_misuse::second_reader;
    return stream_misuse::none;
}

template<class Operation>
void stop_reading(const stream_ptr& stream, const Operation& op) noexcept {
    if (!stream || stream->reader != &op) return;
    stream->reader = nullptr;
    stream->source.unpark(0);
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
            s.reader = this;
            s.source.park(0, *this);
            return false;
        }
    }
}

void read_operation::unpark() noexcept { stop_reading(stream_, *this); }

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
    if (s.read_error != 0) throw_system_error(s.read_error, "read from " + s.peer);
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
    if (const std::size_t available = s.buffer.size()) {
        got_ = std::min(available, size_);
        std::memcpy(into_, s.buffer.view().data(), got_);
        s.buffer.consume(got_);
        return true;
    }
    error_ = s.read_error;
    if (error_ != 0) return true;
    if (s.eof || s.closed()) return true;
    for (;;) {
        const ssize_t n = ::recv(s.fd, into_, size_, 0);
        if (n >= 0) {
            got_ = static_cast<std::size_t>(n);
            if (n == 0) s.end_reached();
            error_ = s.read_error;
            return true;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            error_ = s.read_error = errno;
            return true;
        }
        s.buffer.release();
        s.reader = this;
        s.source.park(0, *this);
        return false;
    }
}

void read_some_operation::unpark() noexcept { stop_reading(stream_, *this); }

std::size_t read_some_operation::finish() {
    if (misuse_ != stream_misuse::none) throw_stream_misuse(misuse_, stream_.get());
    if (error_ != 0) throw_system_error(error_, "read from " + stream_->peer);
    return got_;
}

void read_some_operation::describe(std::string& out) const { describe_stream(out, "data from ", stream_); }

// ---- writing ----

bool write_operation::start() noexcept {
    if (!stream_) {
        if (!close_) misuse_ = stream_misuse::no_stream;
        return true;
    }
    stream_state& s = *stream_;
    if (s.closed()) {
        if (!close_) error_ = s.write_error != 0 ? s.write_error : EPIPE;
        return done();
    }
    if (s.source.loop() != task_->loop()) {
        misuse_ = stream_misuse::other_loop;
        return true;
    }
    if (!close_ && !may_write()) return done();
    if (!s.writers.empty() && s.writers.front() != this) {
        join_writers();
        return false;
    }
    if (close_) {
        if (linked()) unlink();
        s.close(false);
        return true;
    }
    return send_all() ? done() : false;
}

// True if this operation may write; otherwise the reason is noted. A writer that stood in the line already when
// write_eof() or close_clients() came may finish.
bool write_operation::may_write() noexcept {
    const stream_state& s = *stream_;
    if (s.write_eof && !linked()) misuse_ = stream_misuse::after_eof;
    if (s.torn_at > 0) misuse_ = stream_misuse::torn;
    error_ = s.closing && !linked() ? EPIPE : s.write_error;
    return misuse_ == stream_misuse::none && error_ == 0;
}

// The operation neither writes nor waits any more: it leaves the line, and the next writer goes on.
bool write_operation::done() noexcept {
    const bool waited = linked();
    if (waited) unlink();
    if (waited || stream_->writers.empty()) stream_->next_writer();
    return true;
}

bool write_operation::send_all() noexcept {
    stream_state& s = *stream_;
    for (int calls = 0; sent_ < size_; ++calls) {
        if (calls == calls_in_a_row) {
            join_writers();
            start_again();
            return false;
        }
        const ssize_t n = ::send(s.fd, data_ + sent_, std::min(size_ - sent_, 4 * largest_chunk), MSG_NOSIGNAL);
        if (n >= 0) {
            sent_ += static_cast<std::size_t>(n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            join_writers();
            s.source.park(1, *this);
            return false;
        } else if (errno != EINTR) {
            error_ = s.write_error = errno;
            return true;
        }
    }
    return true;
}

void write_operation::unpark() noexcept {
    if (!linked()) return;
    stream_state& s = *stream_;
    if (s.writers.front() == this && s.source.attached()) s.source.unpark(1);
    if (sent_ > 0) s.torn_at = sent_;
    unlink();
    s.next_writer();
}

cancel_reply write_operation::cancel(const std::string& message) noexcept {
    if (close_ && stream_) stream_->close(false);
    return irrevocable<write_operation>::cancel(message);
}

void write_operation::finish() {
    if (misuse_ != stream_misuse::none) throw_stream_misuse(misuse_, stream_.get());
    if (error_ != 0) throw_system_error(error_, "write to " + stream_->peer);
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
    state_->write_eof = true;
    if (state_->writers.empty()) state_->shut_down_writing();
    return {};
}

void stream::abort() {
    if (!state_) detail::throw_stream_misuse(detail::stream_misuse::no_stream, nullptr);
    const detail::loop_core* const loop = detail::local().loop;
    if (loop && !state_->closed() && state_->source.loop() != loop) {
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

}  // namespace aio
