#pragma once
// A transaction that is repeated when it has failed only because of others that ran at the same time.
//
//     int left = co_await aio::sql::retry_serialization(db, [&]() -> aio::coro<int> {
//         auto rows = co_await db.query("UPDATE seats SET free = free - 1 WHERE show = $1 RETURNING free", 7);
//         co_return rows[0][0].as<int>();
//     });

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/task/await.hpp>
#include <aio/sleep.hpp>
#include <aio/sql/connection.hpp>
#include <aio/with.hpp>

#include <chrono>
#include <type_traits>
#include <utility>

namespace aio::inline v0::sql {

/// How often a transaction is tried again, and when.
struct retry_options {
    int attempts = 5;                      // all together
    std::chrono::milliseconds first{10};   // the pause before the second; each further one is twice as long
    std::chrono::milliseconds most{1000};  // the longest pause
    sql::isolation isolation = sql::isolation::serializable;  // of each attempt
};

/// True for an error after which the same transaction may succeed: serialization_failure (40001), deadlock_detected
/// (40P01); SQLite's SQLITE_BUSY in its forms.
AIO_API bool may_be_repeated(const error& e) noexcept;
/// A part of the pause, by chance: so that two that have met do not meet again.
AIO_API std::chrono::nanoseconds jittered(std::chrono::nanoseconds pause);

namespace retry_detail {
template<class T, class Fn>
coro<T> run(connection& db, Fn fn, retry_options options) {
    std::chrono::milliseconds pause = options.first;
    const transaction_options how{.isolation = options.isolation};
    for (int attempt = 1;; ++attempt) {
        bool again = false;
        try {
            if constexpr (std::is_void_v<T>) {
                co_await with(db.transaction(how), fn);
                co_return;
            } else {
                co_return co_await with(db.transaction(how), fn);
            }
        } catch (const error& e) {
            again = attempt < options.attempts && db.usable() && may_be_repeated(e);
            if (!again) throw;
        }
        co_await sleep(jittered(pause));
        pause = pause * 2 < options.most ? pause * 2 : options.most;
    }
}
}  // namespace retry_detail

/// Calls the async function fn inside a transaction of db, serializable unless the options say otherwise, and gives
/// what it gives. If the transaction fails because of others (may_be_repeated()), everything is rolled back, and after
/// a pause fn is called again: so it must do nothing that a rollback does not undo. Throws the last error. Inside
/// another transaction it makes no sense: that has failed, too.
template<class Fn>
auto retry_serialization(connection& db, Fn fn, retry_options options = {}) {
    using result = aio::detail::awaited_t<std::invoke_result_t<Fn&>>;
    return retry_detail::run<result, Fn>(db, std::move(fn), options);
}

}  // namespace aio::inline v0::sql
