#pragma once
// A queue over machines: queue<T>'s words, over a stream of JetStream that the servers keep and replicate.
//
//     auto& js = co_await aio::enter(aio::jetstream::connect("nats://one:4222,nats://two:4222"));
//     auto& q = co_await aio::enter(js.queue<std::string>("orders", {.maxsize = 1000, .replicas = 3}));
//     co_await q.put("tea");                     // a majority has stored it
//     std::string order = co_await q.get();      // this task's, until task_done()
//     q.task_done();
//     co_await q.join();                         // nothing is left, on any machine
//
// What is guaranteed, and what happens when each part dies: docs/guide/machines.md.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/jetstream/codec.hpp>
#include <aio/jetstream/connection.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0::jetstream {
struct queue_options;
}

namespace aio::inline v0::detail {

class nats_queue;

/// Makes the state of a queue, and lets it go.
class queue_opener {
public:
    queue_opener(std::shared_ptr<nats_client> client, std::string name, const jetstream::queue_options& options);
    queue_opener(queue_opener&&) noexcept;
    queue_opener& operator=(queue_opener&&) noexcept;
    ~queue_opener();
    coro<std::shared_ptr<nats_queue>> open();
    coro<> close();

private:
    std::shared_ptr<nats_queue> state_;
};

}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

/// The options of connection::queue(), which copies what they refer to. An option that is left at its default is as the
/// queue has it already; the default counts for a queue that is made. The servers do not keep max_deliver,
/// dead_letters, prefetch and retry_delay: these count for this process alone, and each process that gets items has to
/// give them.
///
/// The dead-letter queue is found, or made, when the queue is entered. While it takes nothing, because it was shut down
/// or removed, is full, or the servers refuse an item, the items that should go there stay in their queue. They are
/// tried again after a pause, of a second that doubles up to 16, and go there once that is possible; no task gets them.
/// The first one is told to the loop's exception handler with a jetstream::error, and
/// queue_statistics::unburied counts them. join(), and get() of a queue that was shut down, throw jetstream::error once
/// nothing else is left.
struct queue_options {
    std::size_t maxsize = 0;                // items that wait or are being worked on, over all machines; 0: no limit
    int replicas = 0;                       // servers that have each item: 1 (the default), 3 or 5
    delay ack_wait = std::nullopt;          // how long a process may be silent before its items go to others: 30 s
    int max_deliver = 0;                    // an item that was given so often and is not done is given up; 0: never
    std::string_view dead_letters = {};     // the queue that such items go to (below); empty: they are dropped
    std::size_t prefetch = 0;               // items that come before a task asks: faster, and less fair among machines
    bool in_memory = false;                 // of a queue that is made: the servers do not write it to disk
    delay retry_delay = std::nullopt;       // how long an item rests that a task has given back without task_done()
    delay duplicate_window = std::nullopt;  // how long the servers know what was put, and put() tries again: 2 min
    bool reopen = false;                    // a queue that was shut down takes items again
};

/// The options of one put(), which copies what they refer to.
struct put_options {
    /// The item's identity in this queue, in place of one that put() makes. A program that has died in a put() does not
    /// know whether its item is stored: it puts the item again under the same id, and the servers drop the second. They
    /// know an id for the duplicate_window, which has to be longer than the program may be away.
    std::string_view id = {};
    /// The item may have been put before under this id, by a program that has died. If the queue has replicas, put()
    /// asks the processes that get items before it sends anything: docs/internals/jetstream.md says why.
    bool again = false;
};

/// The counts of a queue, of this process alone.
struct queue_statistics {
    std::uint64_t put;           // known to be stored
    std::uint64_t put_retries;   // attempts whose answer did not come, of dead letters, too
    std::uint64_t duplicates;    // items that had been stored before: the servers have dropped the second
    std::uint64_t known;         // items that had been stored before, as another process knew: no second was sent
    std::uint64_t dropped;       // second messages for an item that came here, and that no task has got
    std::uint64_t received;      // items that came from the servers
    std::uint64_t redelivered;   // of those, the ones that had been given to somebody before
    std::uint64_t acknowledged;  // task_done()
    std::uint64_t given_back;    // by tasks that ended without it, and by retry_later()
    std::uint64_t dead;          // given up, after max_deliver
    std::uint64_t forgotten;     // times that the servers had forgotten items, and were made to give them again
    std::size_t ready;           // items that wait here for a task
    std::size_t held;            // items that tasks work on
    std::size_t unburied;        // items that stay, for the dead-letter queue takes nothing, as far as it is known here
    std::size_t tasks_getting;   // that wait in get()
    std::size_t tasks_putting;   // that wait in put()
    bool shut_down;              // shutdown() was called, here or elsewhere
};

/// What task_done() and done() give. It may be dropped: the acknowledgement is on its way. Awaited, it completes when
/// the servers have said that they have it. Throws timeout_error if they do not within ack_wait; then the item may be
/// given to somebody again.
class acknowledgement {
public:
    acknowledgement(std::shared_ptr<detail::nats_queue> queue, std::string subject) noexcept;
    acknowledgement(acknowledgement&&) noexcept;
    acknowledgement& operator=(acknowledgement&&) noexcept;
    ~acknowledgement();
    detail::coro_awaiter<void> operator co_await() &&;

private:
    std::shared_ptr<detail::nats_queue> queue_;
    std::string subject_;
};

/// The part of queue<T> that does not depend on T. Belongs to its connection's loop.
class queue_base {
public:
    explicit queue_base(std::shared_ptr<detail::nats_queue> state) noexcept;
    ~queue_base();
    queue_base(const queue_base&) = delete;
    queue_base& operator=(const queue_base&) = delete;

    /// Says that the oldest item is done which this task has got and has not acknowledged. Throws std::invalid_argument
    /// if there is none.
    acknowledgement task_done();
    /// Gives that item back, to be given to anybody after the delay; it counts as one more delivery. Throws as
    /// task_done().
    void retry_later(delay d);
    /// How often that item has been given to somebody, this time included. Throws as task_done().
    int delivery() const;
    /// The identity under which that item was put: put_options::id, or what put() has made. It is the same however
    /// often the item is given to somebody, so work that may not be done twice can be guarded by it. A dead letter has
    /// the id that its item had in the first queue. Throws as task_done().
    std::string id() const;

    /// Completes when nothing is left, neither waiting nor being worked on, by anybody. The servers are asked again
    /// after a pause, of at most 200 ms. Revertible. Throws jetstream::error if they cannot say; and if nothing is left
    /// but items that the dead-letter queue does not take, at once, or after 5 s if it is full.
    coro<> join();
    /// For everybody: put() fails from now on, wherever; get() fails once nothing is left, or at once if immediate, and
    /// then all items are dropped, and count as done. Once more, it does nothing. A cancel leaves it done or not.
    coro<> shutdown(bool immediate = false);
    /// Asks the servers how many items wait or are being worked on, over all machines: what maxsize limits. Revertible.
    /// Throws timeout_error, jetstream::error.
    coro<std::size_t> size();
    /// How many items the queue takes; 0: no limit. put() waits while it is full.
    std::size_t maxsize() const noexcept;
    const std::string& name() const noexcept;      // The queue's name.
    queue_statistics statistics() const noexcept;  // A snapshot of what this process does with the queue.

protected:
    coro<> put_bytes(std::string data, std::string id, bool again);
    coro<std::string> get_bytes();

    std::shared_ptr<detail::nats_queue> state_;
};

/// A queue over machines, whose items have the type T. connection::queue() makes it, and its manager ends it. Any
/// number of tasks, processes and machines put and get.
template<class T>
class queue : public queue_base {
public:
    using value_type = T;
    using queue_base::queue_base;

    /// Completes when the servers have stored the item: all that replicas asks for, by majority. Waits while there is
    /// no connection, and while the queue is full. If an answer is lost, it tries again, and the servers drop the
    /// second. Irrevocable while an answer is under way: a cancel waits for it, at most for the request_timeout, and a
    /// stored item is told by a normal return; a put() that throws cancelled_error has put nothing, unless no answer
    /// came. Throws queue_shut_down if it is not stored; timeout_error if no answer came for most of the
    /// duplicate_window, after which another attempt might store the item twice; jetstream::error; what to_bytes()
    /// throws, and std::invalid_argument for an id with a space, a line break or another control character, at once.
    AIO_DETAIL_WRAPPER coro<> put(const T& item, put_options options = {}) {
        return put_bytes(codec<T>::encode(item), std::string(options.id), options.again);
    }

    /// Gives an item to this task, the oldest first. It is this task's until task_done(); others get it when this task
    /// ends without that, when its process dies or stands still for ack_wait, or the queue is left. Revertible: what
    /// has come for a cancelled get() is for the next one. Throws queue_shut_down once the queue is shut down and
    /// nothing is left; jetstream::error if the queue was removed, or is shut down and nothing is left but items that
    /// the dead-letter queue does not take; what from_bytes() throws: then the item is this task's all the same.
    coro<T> get() {
        if constexpr (std::is_same_v<T, std::string>) {
            return get_bytes();
        } else {
            return decode(get_bytes());
        }
    }

private:
    static coro<T> decode(coro<std::string> bytes) {
        const std::string text = co_await std::move(bytes);
        co_return codec<T>::decode(text);
    }
};

/// What connection::queue() gives: a manager for with() and enter().
template<class T>
class [[nodiscard("give it to with() or enter()")]] queue_manager {
public:
    queue_manager(std::shared_ptr<detail::nats_client> client, std::string name, const queue_options& options)
        : opener_(std::move(client), std::move(name), options) {}
    /// Finds the queue, or makes it. Throws jetstream::error if a stream of that name is no queue, or has other options
    /// than those asked for.
    coro<queue<T>&> enter() {
        queue_ = std::make_unique<queue<T>>(co_await opener_.open());
        co_return *queue_;
    }
    /// Gives back what this process has got and not acknowledged. The queue and its items stay on the servers.
    AIO_DETAIL_WRAPPER coro<> exit(std::exception_ptr) { return opener_.close(); }

private:
    detail::queue_opener opener_;
    std::unique_ptr<queue<T>> queue_;
};

}  // namespace aio::inline v0::jetstream
