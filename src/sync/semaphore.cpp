// semaphore: its checks, and what becomes of the waits when it is destroyed. acquire() and release() are inline in
// semaphore.hpp.

#include <aio/semaphore.hpp>

namespace aio::inline v0 {

semaphore::semaphore(std::ptrdiff_t value, std::ptrdiff_t bound) : value_(value), bound_(bound) {
    if (value < 0) throw std::invalid_argument("a semaphore cannot start with a negative value");
}

void semaphore::throw_too_many() {
    throw std::invalid_argument("release() of a bounded semaphore that has all of its permits already");
}

void semaphore::end_waits() noexcept {
    detail::destruction_notice notice("aio::semaphore");
    while (detail::semaphore_acquire* w = woken_.pop_front()) notice.grant(*w);
    notice.to_all(waiters_);
    notice.to_all(postponed_);
}

void detail::semaphore_acquire::describe(std::string& out) const { out += "permit of a semaphore"; }

}  // namespace aio::inline v0
