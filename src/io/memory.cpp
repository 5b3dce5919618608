// Two transports that carry bytes in memory: what one writes the other one reads. No descriptor and no system call is
// behind them, so a test on virtual time, or of every failing allocation, runs on them as well.

#include "io/transport.hpp"

#include <aio/detail/io/stream_state.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace aio::inline v0::detail {
namespace {

/// The bytes on their way to one end. They are kept in a ring, which is allocated once.
class one_way {
public:
    explicit one_way(std::size_t capacity) : ring_(std::max<std::size_t>(1, capacity)) {}

    std::size_t write(const char* from, std::size_t size) noexcept {
        const std::size_t n = std::min(size, ring_.size() - filled_);
        for (std::size_t done = 0; done < n;) {
            const std::size_t at = (begin_ + filled_) % ring_.size();
            const std::size_t piece = std::min(n - done, ring_.size() - at);
            std::memcpy(ring_.data() + at, from + done, piece);
            filled_ += piece;
            done += piece;
        }
        return n;
    }
    std::size_t read(char* into, std::size_t size) noexcept {
        const std::size_t n = std::min(size, filled_);
        for (std::size_t done = 0; done < n;) {
            const std::size_t piece = std::min(n - done, ring_.size() - begin_);
            std::memcpy(into + done, ring_.data() + begin_, piece);
            begin_ = (begin_ + piece) % ring_.size();
            filled_ -= piece;
            done += piece;
        }
        return n;
    }
    bool empty() const noexcept { return filled_ == 0; }
    void drop() noexcept { filled_ = 0; }

    bool ended = false;  // the writer writes nothing more
    bool reset = false;  // the writer has aborted: what was on its way is lost
    bool left = false;   // the reader is gone
    io_waiter reader, writer;

    static void tell(io_waiter& w) noexcept {
        const io_waiter once = std::exchange(w, {});
        if (once.who) once.ready(once.who);
    }

private:
    std::vector<char> ring_;
    std::size_t begin_ = 0, filled_ = 0;
};

class memory_transport final : public transport {
public:
    memory_transport(std::shared_ptr<one_way> in, std::shared_ptr<one_way> out, loop_core& loop) noexcept
        : transport(loop), in_(std::move(in)), out_(std::move(out)) {}
    ~memory_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (in_->reset) return io_result::failed(ECONNRESET);
        if (const std::size_t n = in_->read(into, size)) {
            one_way::tell(in_->writer);
            return io_result::moved(n);
        }
        return in_->ended ? io_result::ended() : io_result::would_block();
    }
    bool nothing_to_read() const noexcept override { return in_->empty() && !in_->ended && !in_->reset; }
    io_result write(const iovec* parts, int count) noexcept override {
        if (out_->ended || out_->left) return io_result::failed(in_->reset ? ECONNRESET : EPIPE);
        std::size_t n = 0;
        for (int i = 0; i < count; ++i) n += out_->write(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
        if (n == 0) return io_result::would_block();
        one_way::tell(out_->reader);
        return io_result::moved(n);
    }
    void wait(direction d, io_waiter w) noexcept override { (d == direction::read ? in_->reader : out_->writer) = w; }
    void stop_waiting(direction d) noexcept override { wait(d, {}); }
    void shut_down_writing() noexcept override {
        out_->ended = true;
        one_way::tell(out_->reader);
    }
    void close(bool abort) noexcept override {
        if (std::exchange(closed_, true)) return;
        // As with TCP, bytes that nobody has read make the close a reset.
        out_->reset = abort || !in_->empty();
        if (out_->reset) out_->drop();
        out_->ended = in_->left = true;
        for (io_waiter* w : {&out_->reader, &in_->writer, &in_->reader, &out_->writer}) one_way::tell(*w);
    }

private:
    const std::shared_ptr<one_way> in_, out_;
    bool closed_ = false;
};

}  // namespace

std::pair<transport_ptr, transport_ptr> make_memory_transports(std::size_t capacity) {
    const auto there = std::make_shared<one_way>(capacity), back = std::make_shared<one_way>(capacity);
    loop_core& loop = require_loop();
    transport_ptr first = std::make_unique<memory_transport>(there, back, loop);
    return {std::move(first), std::make_unique<memory_transport>(back, there, loop)};
}

std::pair<stream_ptr, stream_ptr> connected_in_memory(std::size_t capacity, std::size_t limit) {
    auto [one, other] = make_memory_transports(capacity);
    stream_ptr first(new stream_state(std::move(one), "a stream in memory", limit));
    return {std::move(first), stream_ptr(new stream_state(std::move(other), "a stream in memory", limit))};
}

}  // namespace aio::inline v0::detail
