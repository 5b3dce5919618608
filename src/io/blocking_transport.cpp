// Reads or writes a file on a thread of the file pool: the kernel cannot tell when a file is ready. A transport has one
// job, which reads a block ahead, or writes what it was given. A job that has begun cannot be stopped, so it outlives a
// transport that is closed meanwhile.

#include "io/foreign_transports.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

#include <poll.h>
#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

constexpr std::size_t read_size = 64 * 1024, most_written = 1024 * 1024;

class blocking_transport;

struct piece_job final : blocking_job, pooled {
    const int fd;
    const direction way;
    const left_over keep;
    blocking_transport* owner;  // null: it is closed, and the job deletes itself
    loop_core* loop;
    std::unique_ptr<char[]> data;
    std::size_t capacity = 0;
    std::size_t size = 0;  // to write, or read
    int error = 0;
    bool ended = false;
    bool running = false;

    piece_job(int descriptor, direction d, left_over k, blocking_transport& transport) noexcept
        : fd(descriptor), way(d), keep(k), owner(&transport) {
        run = [](blocking_job& job) noexcept {
            auto& self = static_cast<piece_job&>(job);
            self.way == direction::read ? self.read() : self.write();
        };
        deliver = [](mailbox_node& node) noexcept { static_cast<piece_job&>(node).delivered(); };
        orphaned = [](blocking_job& job) noexcept { static_cast<piece_job&>(job).abandoned(); };
    }
    ~piece_job() { ::close(fd); }
    piece_job(const piece_job&) = delete;
    piece_job& operator=(const piece_job&) = delete;

    void delivered() noexcept;
    void abandoned() noexcept {
        if (way == direction::read && size > 0 && keep) keep(data.get(), size);
        delete this;
    }

private:
    // Somebody who shares the descriptor may have set O_NONBLOCK.
    bool try_again(short events) const noexcept {
        if (errno == EAGAIN) {
            pollfd state{fd, events, 0};
            ::poll(&state, 1, -1);
            return true;
        }
        return errno == EINTR;
    }
    void read() noexcept {
        ssize_t n;
        do { n = ::read(fd, data.get(), capacity); } while (n < 0 && try_again(POLLIN));
        size = n > 0 ? static_cast<std::size_t>(n) : 0;
        ended = n == 0;
        error = n < 0 ? errno : 0;
    }
    void write() noexcept {
        error = 0;
        for (std::size_t done = 0; done < size && error == 0;) {
            const ssize_t n = ::write(fd, data.get() + done, size - done);
            if (n >= 0) {
                done += static_cast<std::size_t>(n);
            } else if (!try_again(POLLOUT)) {
                error = errno;
            }
        }
    }
};

class blocking_transport final : public transport {
public:
    blocking_transport(int fd, direction d, left_over keep, loop_core& loop)
        : transport(loop), job_(new piece_job(fd, d, keep, *this)) {
        job_->loop = &loop;
    }
    ~blocking_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (!job_ || job_->way != direction::read) return io_result::ended();
        if (job_->running) return io_result::would_block();
        if (taken_ < job_->size) {
            const std::size_t n = std::min(size, job_->size - taken_);
            std::memcpy(into, job_->data.get() + taken_, n);
            taken_ += n;
            return io_result::moved(n);
        }
        if (const int error = std::exchange(job_->error, 0)) return io_result::failed(error);
        if (std::exchange(job_->ended, false)) return io_result::ended();
        taken_ = job_->size = 0;
        if (const int error = begin(read_size)) return io_result::failed(error);
        return io_result::would_block();
    }
    // Takes what it is given, and holds it until the thread has written it: so a write completes when the system has
    // it, and hears of an error.
    io_result write(const iovec* parts, int count) noexcept override {
        if (!job_ || job_->way != direction::write) return io_result::failed(EPIPE);
        if (job_->running) return io_result::would_block();
        holds_output_ = false;
        if (const int error = std::exchange(job_->error, 0)) return io_result::failed(error);
        std::size_t size = 0;
        for (int i = 0; i < count; ++i) size += parts[i].iov_len;
        size = std::min(size, most_written);
        if (size == 0) return io_result::moved(0);
        if (const int error = make_room(size)) return io_result::failed(error);
        job_->size = 0;
        for (int i = 0; i < count && job_->size < size; ++i) {
            const std::size_t n = std::min(parts[i].iov_len, size - job_->size);
            std::memcpy(job_->data.get() + job_->size, parts[i].iov_base, n);
            job_->size += n;
        }
        if (const int error = begin(size)) return io_result::failed(error);
        holds_output_ = true;
        return io_result::moved(size);
    }
    bool finishes_output() const noexcept override { return holds_output_; }
    void wait(direction d, io_waiter w) noexcept override {
        if (job_ && job_->way == d) waiter_ = w;
    }
    void stop_waiting(direction d) noexcept override {
        if (job_ && job_->way == d) waiter_ = {};
    }
    void shut_down_writing() noexcept override {}
    void close(bool) noexcept override {
        piece_job* const job = std::exchange(job_, nullptr);
        if (!job) return;
        if (job->running) {
            job->owner = nullptr;
            --loop()->outstanding;
        } else {
            if (taken_ > 0) std::memmove(job->data.get(), job->data.get() + taken_, job->size - taken_);
            job->size -= taken_;
            job->abandoned();
        }
        tell();
    }
    int descriptor() const noexcept override { return job_ ? job_->fd : -1; }

    // For the job, which has been delivered.
    void job_done() noexcept {
        --loop()->outstanding;
        if (job_->way == direction::write) {
            job_->size = 0;
            if (job_->error == 0) holds_output_ = false;  // else the next attempt, of nothing, hears of the error
        }
        tell();
    }

private:
    void tell() noexcept {
        const io_waiter once = std::exchange(waiter_, {});
        if (once.who) once.ready(once.who);
    }
    int make_room(std::size_t size) noexcept {
        if (job_->capacity >= size) return 0;
        job_->data.reset(new (std::nothrow) char[size]);
        job_->capacity = job_->data ? size : 0;
        return job_->data ? 0 : ENOMEM;
    }
    // Gives an errno.
    int begin(std::size_t size) noexcept {
        if (const int error = make_room(size)) return error;
        job_->home = mailbox_of(*loop());
        job_->running = true;
        try {
            file_pool().submit(*job_);
        } catch (const std::system_error& e) {
            job_->running = false;
            return e.code().value();
        } catch (...) {
            job_->running = false;
            return ENOMEM;
        }
        ++loop()->outstanding;
        return 0;
    }

    piece_job* job_;         // null: closed
    std::size_t taken_ = 0;  // of the block that was read
    io_waiter waiter_;
};

void piece_job::delivered() noexcept {
    running = false;
    if (owner) {
        owner->job_done();
    } else {
        abandoned();
    }
}

}  // namespace

transport_ptr make_blocking_transport(int fd, direction d, left_over keep) {
    try {
        return std::make_unique<blocking_transport>(fd, d, keep, require_loop());
    } catch (...) {
        ::close(fd);
        throw;
    }
}

}  // namespace aio::inline v0::detail
