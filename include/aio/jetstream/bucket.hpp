#pragma once
// A bucket of keys and values that the servers keep and replicate: the key-value store of JetStream. What other clients
// of NATS have written is read, and the other way round.
//
//     auto& js = co_await aio::enter(aio::jetstream::connect("nats://one:4222,nats://two:4222"));
//     auto& prices = co_await aio::enter(js.bucket<std::string>("prices", {.history = 5, .replicas = 3}));
//     std::uint64_t revision = co_await prices.put("tea.green", "42");
//     co_await prices.update("tea.green", "43", revision);     // only if nobody has written since
//     if (auto e = co_await prices.get("tea.green")) use(*e->value);
//     auto changes = prices.watch("tea.*");                    // what is there, then what changes
//     while (auto e = co_await changes.next()) { ... }
//
// A lock over a bucket: <aio/jetstream/lease_lock.hpp>.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/jetstream/codec.hpp>
#include <aio/jetstream/connection.hpp>
#include <aio/jetstream/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aio::inline v0::jetstream {

/// For a bucket that is made. Of one that is there, those that differ from their default are checked.
struct bucket_options {
    int history = 1;             // values of a key that the servers keep: 1 to 64
    int replicas = 1;            // servers that have each value: 1, 3 or 5
    delay ttl = std::nullopt;    // how long the servers keep a value; std::nullopt: for ever
    std::int64_t max_bytes = 0;  // of all values; beyond it put() is refused; 0: no limit
    bool in_memory = false;      // the servers do not write it to disk
};

/// Tells what has happened to the key of an entry.
enum class entry_kind : std::uint8_t {
    value,
    erased,      // the key was erased
    up_to_date,  // of a watch: all that was there has been given; what follows are changes. It has no key.
};

/// One value of a key, or the note that it is gone.
template<class T>
struct entry {
    entry_kind kind = entry_kind::value;            // what has happened to the key
    std::string key;                                // empty for up_to_date
    std::optional<T> value;                         // of entry_kind::value
    std::uint64_t revision = 0;                     // grows with each write to the bucket
    std::chrono::system_clock::time_point created;  // by the server's clock
};

struct lease_options;
class lease_lock;

}  // namespace aio::inline v0::jetstream

namespace aio::inline v0::detail {

class nats_bucket;
using raw_entry = jetstream::entry<std::string>;

/// Makes the state of a bucket, and lets it go.
class bucket_opener {
public:
    bucket_opener(
        std::shared_ptr<nats_client> client, const std::string& name, const jetstream::bucket_options& options);
    coro<std::shared_ptr<nats_bucket>> open();
    void close() noexcept;

private:
    std::shared_ptr<nats_bucket> state_;
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

/// The part of bucket<T> that does not depend on T. Belongs to its connection's loop. A key has letters, digits and
/// - _ = / . in it, and neither begins nor ends with a dot, nor has two in a row: other ones are std::invalid_argument.
class bucket_base {
public:
    explicit bucket_base(std::shared_ptr<detail::nats_bucket> state) noexcept;
    ~bucket_base();
    bucket_base(const bucket_base&) = delete;
    bucket_base& operator=(const bucket_base&) = delete;

    /// Marks a key as erased, and gives the marker's revision. The history stays. Does so even if there is no such key.
    /// Completes, is cancelled and fails as put().
    coro<std::uint64_t> erase(std::string key);
    /// Marks a key as erased if nobody has written it since that revision. Throws wrong_revision otherwise.
    coro<std::uint64_t> erase(std::string key, std::uint64_t revision);
    /// Marks a key as erased, removes its history, and gives the marker's revision. Completes, is cancelled and fails
    /// as put().
    coro<std::uint64_t> purge(std::string key);
    /// Gives the keys that have a value and match the pattern, which is one of watch(), in the order of their last
    /// writes. Revertible. Throws timeout_error, jetstream::error.
    coro<std::vector<std::string>> keys(std::string pattern = ">");

    /// A lock that one task of all machines holds: <aio/jetstream/lease_lock.hpp>.
    template<class Options = lease_options, class Lock = lease_lock>
    Lock lock(std::string key, Options options = {}) {
        return Lock(state_, std::move(key), options);
    }
    const std::string& name() const noexcept;  // The bucket's name.

protected:
    coro<std::optional<detail::raw_entry>> get_bytes(std::string key);
    coro<std::uint64_t> put_bytes(std::string key, std::string data, std::optional<std::uint64_t> expected);
    coro<std::uint64_t> create_bytes(std::string key, std::string data);
    async_generator<detail::raw_entry> watch_bytes(std::string pattern);

    std::shared_ptr<detail::nats_bucket> state_;
};

/// A bucket, whose values have the type T. connection::bucket() makes it, and its manager ends it.
template<class T>
class bucket : public bucket_base {
public:
    using value_type = T;
    using bucket_base::bucket_base;

    /// The entry of a key; std::nullopt if there is none or it was erased. The stream's leader answers: what a put()
    /// has stored is seen by each get() that begins later, wherever. Revertible. Throws timeout_error,
    /// jetstream::error; what from_bytes() throws.
    AIO_DETAIL_WRAPPER coro<std::optional<entry<T>>> get(std::string key) { return decode(get_bytes(std::move(key))); }

    /// Stores a value, and gives its revision, once a majority of its replicas has it. If an answer is lost, it tries
    /// again for the request_timeout, and the servers drop the second. Irrevocable while an answer is under way: a
    /// cancel waits for it. Throws timeout_error if no answer came: it may be stored, or not; jetstream::error; what
    /// to_bytes() throws, at once.
    AIO_DETAIL_WRAPPER coro<std::uint64_t> put(std::string key, T value) {
        return put_bytes(std::move(key), codec<T>::encode(value), std::nullopt);
    }
    /// Stores a value as put() does, if the key has none. Throws wrong_revision if it has one.
    AIO_DETAIL_WRAPPER coro<std::uint64_t> create(std::string key, T value) {
        return create_bytes(std::move(key), codec<T>::encode(value));
    }
    /// Compare and swap: stores a value if the revision of the key is still the given one; 0: if it was never written.
    /// Throws wrong_revision if somebody has written since. If an answer was lost and another one has written
    /// meanwhile, it throws that, too, although the value may have been there in between.
    AIO_DETAIL_WRAPPER coro<std::uint64_t> update(std::string key, T value, std::uint64_t revision) {
        return put_bytes(std::move(key), codec<T>::encode(value), revision);
    }

    /// Gives what there is under the keys that the pattern matches ("tea", "tea.*", ">"), then an entry that says
    /// up_to_date, then each change from there on, in the order of the revisions. Each revision is given at most once.
    /// None is left out after up_to_date while the history has it: if the connection is lost, the watch goes on where
    /// it was. It ends when the generator is dropped or closed, or the bucket is left. next() is revertible up to the
    /// end of the generator: a cancel ends it. Throws jetstream::error if the bucket was removed, timeout_error.
    async_generator<entry<T>> watch(std::string pattern = ">") {
        if constexpr (std::is_same_v<T, std::string>) {
            return watch_bytes(std::move(pattern));
        } else {
            return decode_all(watch_bytes(std::move(pattern)));
        }
    }

private:
    static entry<T> decoded(detail::raw_entry&& raw) {
        entry<T> e{raw.kind, std::move(raw.key), std::nullopt, raw.revision, raw.created};
        if (raw.value) e.value = codec<T>::decode(*raw.value);
        return e;
    }
    static coro<std::optional<entry<T>>> decode(coro<std::optional<detail::raw_entry>> asked) {
        std::optional<detail::raw_entry> raw = co_await std::move(asked);
        std::optional<entry<T>> e;
        if (raw) e = decoded(std::move(*raw));
        co_return e;
    }
    static async_generator<entry<T>> decode_all(async_generator<detail::raw_entry> all) {
        while (auto raw = co_await all.next()) {
            entry<T> e = decoded(std::move(*raw));
            co_yield std::move(e);
        }
    }
};

/// The manager that connection::bucket() gives, for with() and enter().
template<class T>
class [[nodiscard("give it to with() or enter()")]] bucket_manager {
public:
    bucket_manager(std::shared_ptr<detail::nats_client> client, const std::string& name, const bucket_options& options)
        : opener_(std::move(client), name, options) {}
    /// Finds the bucket, or makes it. Throws jetstream::error if it has other options than those asked for.
    coro<bucket<T>&> enter() {
        bucket_ = std::make_unique<bucket<T>>(co_await opener_.open());
        co_return *bucket_;
    }
    /// Ends its watches. The bucket stays on the servers.
    coro<> exit(std::exception_ptr) {
        opener_.close();
        co_return;
    }

private:
    detail::bucket_opener opener_;
    std::unique_ptr<bucket<T>> bucket_;
};

}  // namespace aio::inline v0::jetstream
