#include <aio/sql/retry.hpp>

#include <random>

namespace aio::inline v0::sql {

bool may_be_repeated(const error& e) noexcept {
    return e.code() == "40001" || e.code() == "40P01" || e.code().starts_with("SQLITE_BUSY");
}

std::chrono::nanoseconds jittered(std::chrono::nanoseconds pause) {
    thread_local std::minstd_rand random(std::random_device{}());
    return std::chrono::nanoseconds(
        std::uniform_int_distribution<std::int64_t>(pause.count() / 2, pause.count())(random));
}

}  // namespace aio::inline v0::sql
