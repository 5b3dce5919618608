#pragma once
// The lines of a file at the speed of memory.
//
// A regular file is read in large blocks. What the kernel has in memory is read by the loop's thread itself
// (RWF_NOWAIT): a block is copied in some 30 us, and to hand it over from a thread of the pool costs about as much
// again. What the kernel has to fetch from the device is read by a thread of the pool; the kernel, told that the
// file is read in order, fetches the following blocks meanwhile. A block of our own that is read ahead by a
// second thread would therefore only move a copy in memory to another core. mmap would save that copy, but a file that
// is truncated meanwhile would end the process (SIGBUS), and a page that is not there would stop the loop.
//
// The ends of lines are found 64 bytes at a time, as bits of a word: a call of memchr for each line costs more than
// the search, and so does the branch on the line's length that the processor cannot foresee.

#include "io/file_state.hpp"

#include <aio/sleep.hpp>

#include <bit>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include <fcntl.h>
#include <sys/uio.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace aio::inline v0::detail {

constexpr std::size_t window_size = 64;

/// Bit i is set if at[i] is the end of a line.
inline std::uint64_t line_ends(const char* at) noexcept {
    std::uint64_t ends = 0;
#if defined(__SSE2__)
    const __m128i end = _mm_set1_epi8('\n');
    for (int i = 0; i < 4; ++i) {
        const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + i);
        const auto bits = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(part, end)));
        ends |= std::uint64_t{bits} << (16 * i);
    }
#else
    for (std::size_t i = 0; i < window_size; ++i) ends |= std::uint64_t{at[i] == '\n'} << i;
#endif
    return ends;
}

/// The text that was read and not yet given, and where its lines end. A window of 64 bytes is looked at in one go, so
/// the memory has that many bytes more than may be used.
class line_buffer {
public:
    /// Finds the next line that has an end. False: there is none in what was read.
    bool next() noexcept {
        while (ends_ == 0) {
            if (scanned_ >= size_) return false;
            window_ = scanned_;
            ends_ = line_ends(memory_.get() + window_);
            scanned_ += window_size;
            if (scanned_ > size_) {  // the end of the window is not text
                ends_ &= ~std::uint64_t{0} >> (scanned_ - size_);
                scanned_ = size_;
            }
        }
        const std::size_t end = window_ + static_cast<std::size_t>(std::countr_zero(ends_));
        ends_ &= ends_ - 1;
        const char* const text = memory_.get() + begin_;
        const std::size_t length = end - begin_;
        line_ = {text, length - static_cast<std::size_t>(length > 0 && text[length - 1] == '\r')};
        begin_ = end + 1;
        return true;
    }
    /// The line that next() has found; valid until the next call of next() or room().
    std::string_view line() const noexcept { return line_; }
    /// What stands behind the last end of a line.
    std::string_view rest() const noexcept { return {memory_.get() + begin_, size_ - begin_}; }

    /// Gives room for a block behind the rest, which may move. A line of many blocks is moved seldom: whenever the
    /// memory doubles.
    char* room() {
        const std::size_t kept = size_ - begin_;
        if (capacity_ - size_ < block_size) {
            // The block begins where a cache line does: the kernel copies faster to there.
            const std::size_t at = (kept + window_size - 1) / window_size * window_size - kept;
            if (at + kept + block_size > capacity_) {
                const std::size_t larger = at + 2 * kept + block_size + window_size;
                std::unique_ptr<char[], aligned_delete> memory(
                    static_cast<char*>(::operator new(larger + window_size, std::align_val_t(window_size))));
                if (kept > 0) std::memcpy(memory.get() + at, memory_.get() + begin_, kept);
                memory_ = std::move(memory);
                capacity_ = larger;
            } else if (kept > 0) {
                std::memmove(memory_.get() + at, memory_.get() + begin_, kept);
            }
            begin_ = at;
            size_ = scanned_ = at + kept;
        }
        return memory_.get() + size_;
    }
    void filled(std::size_t n) noexcept { size_ += n; }
    /// The rest was taken as a line.
    void drop_rest() noexcept { begin_ = size_; }

private:
    struct aligned_delete {
        void operator()(char* memory) const noexcept { ::operator delete(memory, std::align_val_t(window_size)); }
    };
    std::unique_ptr<char[], aligned_delete> memory_;
    std::size_t capacity_ = 0;  // without the window behind it
    std::size_t begin_ = 0;     // of the next line
    std::size_t size_ = 0;      // the end of the text
    std::size_t scanned_ = 0;   // up to here the ends are known
    std::size_t window_ = 0;    // the window of ends_
    std::uint64_t ends_ = 0;    // in the window, and not yet given
    std::string_view line_;
};

/// A file whose lines are read.
class line_source : public line_buffer {
public:
    explicit line_source(file_ref from) noexcept : file_(std::move(from)), from_memory_(!file_->in_pieces) {
        if (from_memory_) ::posix_fadvise(file_->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    /// Reads a block more. False: the file is at its end.
    coro<bool> more() {
        char* const into = room();
        if (from_memory_) {
            co_await sleep(std::chrono::seconds(0));  // lets others run, and a cancel come through
            iovec part{into, block_size};
            const ssize_t n = ::preadv2(file_->fd, &part, 1, -1, RWF_NOWAIT);
            if (n >= 0) {
                filled(static_cast<std::size_t>(n));
                co_return n > 0;
            }
            if (errno != EAGAIN && errno != EINTR) from_memory_ = false;  // the file system cannot say
        }
        const std::size_t n = co_await read_into(file_, into, block_size);
        filled(n);
        co_return n > 0;
    }
    /// The next block is read from the beginning of the file.
    void rewind() noexcept { ::lseek(file_->fd, 0, SEEK_SET); }
    coro<> close() { return close_file(file_); }

private:
    file_ref file_;
    bool from_memory_;
};

}  // namespace aio::inline v0::detail
