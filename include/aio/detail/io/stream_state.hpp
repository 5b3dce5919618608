#pragma once
// The state behind a stream: what carries its bytes, the bytes that have arrived and not been read, the operations that
// read and write; and the classes of these operations.
//
// Bytes are read only when a task reads, so a slow reader slows its peer down. A read tries first, and waits where that
// would block; nothing is read between a wake-up and the step of the task it wakes, so a cancel in between loses no
// byte. Writes stand in a line, and are written in its order, whoever of them is awake.

#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/detail/task/task_state.hpp>
#include <aio/tls.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

class server_state;
class write_operation;

/// Bytes in a row, taken from the front, appended at the end.
class byte_buffer {
public:
    byte_buffer() = default;
    ~byte_buffer() { release(); }
    byte_buffer(const byte_buffer&) = delete;
    byte_buffer& operator=(const byte_buffer&) = delete;

    std::size_t size() const noexcept { return end_ - begin_; }
    std::string_view view() const noexcept { return std::string_view(memory_ + begin_, size()); }
    /// Gives a place where at least n bytes may be written. filled() then says how many were written.
    char* room_for(std::size_t n);
    void filled(std::size_t n) noexcept { end_ += n; }
    void consume(std::size_t n) noexcept {
        begin_ += n;
        if (begin_ == end_) begin_ = end_ = 0;
    }
    std::string take(std::size_t n) {
        std::string bytes(memory_ + begin_, n);
        consume(n);
        return bytes;
    }
    void release() noexcept;  // frees the memory, and drops the bytes in it

private:
    char* memory_ = nullptr;
    std::size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

class transport;  // src/io/transport.hpp
struct passed_descriptors;
struct io_result;
class tls_settings;  // src/io/tls.hpp
struct tls_report;

/// Shared by the stream, its operations under way and the server it came from. The stream's destructor closes it.
class stream_state final : public list_node, public pooled {
public:
    stream_state(std::unique_ptr<transport> io, std::string peer_address, std::size_t line_limit) noexcept;
    ~stream_state();
    stream_state(const stream_state&) = delete;
    stream_state& operator=(const stream_state&) = delete;
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    static constexpr std::size_t first_chunk = 2048;  // what the first read asks for: a block of the free lists
    bool closed() const noexcept { return io_ == nullptr; }
    /// Null once the stream is closed.
    loop_core* loop() const noexcept;
    std::string local() const;
    /// For socket options; -1 if there is none.
    int descriptor() const noexcept;
    /// The descriptors that have come; null unless the stream is open and a unix socket.
    passed_descriptors* passed() noexcept;
    /// Closes the transport, and ends the waits of the tasks that read or write. abort: the peer gets a reset.
    void close(bool abort) noexcept;
    /// Closes the transport with a reset. Every read and write gets ECONNABORTED from then on.
    void abort() noexcept;
    /// Closes the transport as soon as the writes under way have finished (server::close_clients).
    void close_when_written() noexcept;
    /// Nothing is written any more but what stands in the line already: the peer reads the end after that.
    void end_writing() noexcept;

    // ---- reading: for the operation that is the reader

    /// Reads once, straight from the transport. Notes the end of the stream, or an error.
    io_result read_once(char* into, std::size_t size) noexcept;
    /// Reads once, into the buffer. False if there is nothing to read yet. At the end of the stream, or on an error,
    /// sets eof, read_error or no_memory.
    bool receive(std::size_t wanted) noexcept;
    template<class Operation>
    void wait_for_data(Operation& op) noexcept {
        reader = &op;
        wait_to_read(to_retry(op));
    }
    void stop_reading(const operation& op) noexcept;

    // ---- writing: for the operations in the line

    /// Puts the operation into the line, and writes if the operation is alone there.
    void join_writers(write_operation& op) noexcept;
    bool is_first(const write_operation& op) const noexcept;
    /// What the transport has taken of a write goes out, whatever becomes of the operation.
    bool finishes_output() const noexcept;
    /// Writes now what waits for the flush, as far as there is room.
    void send_collected() noexcept;
    /// True if the kernel can copy from a file to this stream.
    bool sends_files() const noexcept;
    /// The operation is cancelled. torn: after how many bytes of its data; 0 if nothing was written.
    void cancel_write(write_operation& op, std::size_t torn) noexcept;

    // ---- TLS (in tls.cpp)

    /// Puts TLS between the stream and its transport. The handshake is due next. Throws std::logic_error if the stream
    /// is in use, tls_error and std::invalid_argument.
    void secure(const tls_settings& how, std::string host);
    /// Goes on with the handshake, as tls_transport::handshake does.
    io_result handshake() noexcept;
    std::optional<tls_info> tls() const;
    bool encrypted() const noexcept { return report != nullptr; }
    [[noreturn]] void throw_read_error() const;
    [[noreturn]] void throw_write_error(int error) const;

    byte_buffer buffer;
    std::unique_ptr<tls_report> report;  // null: no TLS
    std::string peer;
    std::size_t limit;
    const operation* reader = nullptr;  // the operation that waits for data
    server_state* server = nullptr;     // retained: the server counts this connection
    int read_error = 0;
    int write_error = 0;
    std::size_t torn_at = 0;  // a write was cancelled after this many bytes of its data; 0: none was
    bool no_memory = false;   // the last receive() found none for the buffer
    bool eof = false;
    bool write_eof = false;  // write_eof() was called: no new writes
    bool closing = false;

private:
    struct flush_link final : flushable {
        explicit flush_link(stream_state& s) noexcept : stream(s) {}
        void flush() noexcept override;
        stream_state& stream;
    };
    void wait_to_read(io_waiter w) noexcept;
    void end_reached() noexcept;
    void write_line() noexcept;
    write_operation* next_to_write() noexcept;
    io_result write_once() noexcept;
    io_result write_part(write_operation& op) noexcept;
    void wait_for_room() noexcept;
    bool ends_well() const noexcept { return torn_at == 0 && write_error == 0; }
    void flush_later() noexcept;

    std::unique_ptr<transport> io_;  // null: closed
    list<write_operation> writers_;  // first come first served
    flush_link flush_{*this};
    const task_base* last_writer_ = nullptr;  // compared, never used
    std::uint64_t written_at_look_ = 0;       // of the loop: when the last write of an operation that came alone was
    std::uint32_t references_ = 0;
    bool waits_for_room_ = false;
    std::size_t chunk_ = first_chunk;
};

/// Tells the stream's server that this connection is closed (in server.cpp).
void connection_closed(stream_state& connection) noexcept;

using stream_ptr = state_ptr<stream_state>;

/// Two streams of the running loop that are connected in memory (in memory.cpp).
std::pair<stream_ptr, stream_ptr> connected_in_memory(std::size_t capacity, std::size_t limit);

/// The mistake of the caller's for which an operation was not begun.
enum class stream_misuse : std::uint8_t { none, no_stream, other_loop, second_reader, after_eof, torn };
[[noreturn]] void throw_stream_misuse(stream_misuse misuse, const stream_state* stream);

enum class read_until_what : std::uint8_t { something, end, count, separator, line };

/// stream::read, read_exactly, read_until, read_line. The bytes leave the buffer when the awaiter takes them, not
/// before.
class [[nodiscard("co_await it")]] read_operation final : public revertible<read_operation> {
public:
    read_operation(stream_ptr stream, read_until_what what, std::size_t count) noexcept
        : stream_(std::move(stream)), what_(what), count_(count) {}
    read_operation(stream_ptr stream, std::vector<std::string> separators);
    static constexpr bool awaited_once = true;
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept { unpark(); }
    std::string finish();
    void describe(std::string& out) const override;

private:
    bool satisfied() noexcept;
    bool find_separator() noexcept;
    stream_ptr stream_;
    std::vector<std::string> separators_;  // shortest first
    read_until_what what_;
    stream_misuse misuse_ = stream_misuse::none;
    bool overrun_ = false;
    bool complete_ = false;
    std::size_t count_;        // wanted; when complete: how many bytes to take
    std::size_t scanned_ = 0;  // no separator begins before here; at an overrun: what was looked at
};

/// stream::read_some.
class [[nodiscard("co_await it")]] read_some_operation final : public irrevocable<read_some_operation> {
public:
    read_some_operation(stream_ptr stream, void* into, std::size_t size) noexcept
        : stream_(std::move(stream)), into_(static_cast<char*>(into)), size_(size) {}
    static constexpr bool awaited_once = true;
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept { unpark(); }
    std::size_t finish();
    void describe(std::string& out) const override;

private:
    bool fetch() noexcept;
    stream_ptr stream_;
    char* into_;
    std::size_t size_;
    std::size_t got_ = 0;
    stream_misuse misuse_ = stream_misuse::none;
    int error_ = 0;
};

/// A part of a file that the kernel is to copy; or a text that descriptors go along with, up to its first bytes.
struct file_part {
    int fd;
    std::int64_t offset;
    std::size_t size;
    bool ended = false;    // the file has no more, or the descriptors are sent
    bool refused = false;  // the kernel cannot copy from this file, or does not take the descriptors
    const std::vector<int>* passed = nullptr;
    const char* text = nullptr;
    int error = 0;  // why the descriptors were refused
};

/// stream::write and stream::aclose: both wait until the writes that began before have finished.
class [[nodiscard("co_await it")]] write_operation : public irrevocable<write_operation>, public list_node {
public:
    write_operation(stream_ptr stream, const void* data, std::size_t size) noexcept
        : data_(static_cast<const char*>(data)), size_(size), stream_(std::move(stream)) {}
    explicit write_operation(stream_ptr stream) noexcept : stream_(std::move(stream)), close_(true) {}
    /// For send_file(), which writes a part after another in one place of the line: first a holder waits until it is at
    /// the head, and stays there until leave(). Each part is then written before it.
    struct holder {};
    write_operation(stream_ptr stream, holder) noexcept : stream_(std::move(stream)), holds_(true) {}
    write_operation(stream_ptr stream, holder, const void* data, std::size_t size) noexcept
        : data_(static_cast<const char*>(data)),
          size_(size),
          stream_(std::move(stream)),
          in_place_(true),
          joined_(true) {}
    write_operation(stream_ptr stream, holder, file_part& part) noexcept
        : stream_(std::move(stream)), part_(&part), in_place_(true), joined_(true) {}
    /// The holder leaves the line. torn: how many bytes were written in its place, if nothing can follow them.
    void leave(std::size_t torn) noexcept;
    static constexpr bool awaited_once = true;
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept { unpark(); }
    void finish();
    void describe(std::string& out) const override;
    cancel_reply cancel(const std::string& message) noexcept override;

    // ---- for stream_state, whose line this stands in

    bool closes() const noexcept { return close_; }
    bool holds() const noexcept { return holds_; }
    bool in_place_of_holder() const noexcept { return in_place_; }
    file_part* part() const noexcept { return part_; }
    /// Empty if it is a part of a file.
    std::string_view rest() const noexcept { return {data_ + sent_, size_ - sent_}; }
    bool finished() const noexcept {
        return part_ ? part_->ended || part_->refused || sent_ == part_->size : sent_ == size_;
    }
    std::size_t sent() const noexcept { return sent_; }
    void sent(std::size_t n) noexcept { sent_ += n; }
    /// All bytes are written: the operation leaves the line.
    void done() noexcept;
    /// The stream is closed, torn or broken: the operation leaves the line, and start() finds out why. Until then a
    /// cancel is still delivered.
    void look_again() noexcept;

protected:
    const char* data_ = nullptr;
    std::size_t size_ = 0;

private:
    bool refused() noexcept;
    stream_ptr stream_;
    std::size_t sent_ = 0;
    file_part* part_ = nullptr;
    int error_ = 0;
    stream_misuse misuse_ = stream_misuse::none;
    bool close_ = false;
    bool holds_ = false;
    bool in_place_ = false;
    bool joined_ = false;  // has stood in the line
};

/// A write of a temporary. The operation may be awaited after the expression that made it, so it owns the text.
class [[nodiscard("co_await it")]] owned_write_operation final : public write_operation {
public:
    owned_write_operation(stream_ptr stream, std::string text) noexcept
        : write_operation(std::move(stream), nullptr, 0), text_(std::move(text)) {}
    bool await_ready() {
        data_ = text_.data();  // set only here: until now the operation may have been moved
        size_ = text_.size();
        return write_operation::await_ready();
    }

private:
    std::string text_;
};

/// The result of a function that has done its work already. Awaiting it is allowed, and does nothing.
struct already_done {
    using aio_awaiter = void;
    bool await_ready() const noexcept { return true; }
    template<class Handle>
    void await_suspend(Handle) const noexcept {}
    void await_resume() const noexcept {}
};

}  // namespace aio::inline v0::detail
