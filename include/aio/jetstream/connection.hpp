#pragma once
// A connection to NATS: publish and subscribe, request and reply, and the door to queues and buckets.
//
//     auto& js = co_await aio::enter(aio::jetstream::connect("nats://one:4222,nats://two:4222", {.name = "billing"}));
//     aio::async_generator<aio::jetstream::message> prices = js.subscribe("prices.*");   // heard from here on
//     co_await js.publish("prices.tea", "42");
//     auto m = co_await prices.next();
//     use(m->subject, m->data);
//     aio::jetstream::message answer = co_await js.request("time.now", "", {.timeout = 1s});
//
// One connection serves a program. It runs on its loop, without a thread. When its server goes away it connects to the
// next one, subscribes anew, and goes on; meanwhile what would be sent waits.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/jetstream/error.hpp>
#include <aio/jetstream/message.hpp>
#include <aio/tls.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {
class nats_client;
}

namespace aio::inline v0::jetstream {

struct queue_options;
template<class T>
class queue_manager;
struct bucket_options;
template<class T>
class bucket_manager;

/// The options of connect(), which copies what they refer to before it returns. Secrets appear in no message.
struct connect_options {
    std::string_view name = {};         // what the server's monitoring shows
    std::string_view credentials = {};  // the path of a .creds file, or its text, if that has "-----BEGIN" in it
    const tls_context* context =
        nullptr;                     // TLS by this context; a URL that begins with tls:// takes a client's default
    std::string_view user = {};      // of URLs that name none
    std::string_view password = {};  // of user
    std::string_view token = {};     // instead of user and password
    delay connect_timeout = std::chrono::seconds(5);  // for one attempt at one server, TLS and log-in included
    bool reconnect = true;                            // false: a lost connection stays lost
    int max_attempts = 0;  // in a row, after a loss, before it gives up; 0: no limit. The first connection tries each
                           // server once
    delay reconnect_wait = std::chrono::milliseconds(100);   // after each server was tried once; doubles from there on,
    delay max_reconnect_wait = std::chrono::seconds(4);      // up to this, with up to a half less, at random
    delay request_timeout = std::chrono::seconds(5);         // for each question to JetStream, and for request()
    delay ping_interval = std::chrono::seconds(20);          // a server that is silent for two of them is lost
    bool discover = true;                                    // other servers that the cluster names are tried, too
    std::size_t max_pending = std::size_t(8) * 1024 * 1024;  // bytes to send that wait here; then publish() waits
    bool echo = true;                                        // own messages come to own subscriptions, too
    bool retry_first = false;  // the first connection is tried again as a lost one is, in place of an error
};

/// Where a connection stands.
enum class connection_status : std::uint8_t { connecting, connected, reconnecting, closed };
/// Gives the name of a status.
const char* to_string(connection_status s) noexcept;

/// Something that happened to a connection.
struct connection_event {
    connection_status status;  // as it is now
    std::string server;        // "127.0.0.1:4222": the one connected to, or the one that was lost
    std::string reason;        // why a connection was lost, or what a server has refused; empty for a success
};

/// The counts of a connection since it was made.
struct connection_statistics {
    std::uint64_t messages_in;   // that the server has sent
    std::uint64_t messages_out;  // that were handed to the connection
    std::uint64_t bytes_in;      // of their headers and data
    std::uint64_t bytes_out;     // of their headers and data
    std::uint64_t reconnects;    // connections made after the first
    std::uint64_t missed;        // messages that slow subscribers have not got
    std::size_t subscriptions;   // that have not ended
    std::size_t requests;        // that wait for an answer
    std::size_t pending;         // bytes that wait to be sent
};

/// The options of publish().
struct publish_options {
    headers_ref headers = {};        // sent with the message
    std::string_view reply_to = {};  // the subject for an answer; empty: none is asked for
};
/// The options of subscribe().
struct subscribe_options {
    std::string_view queue_group = {};  // of all subscribers of a group, one gets each message
    std::size_t max_pending = 65536;    // messages that wait for the subscriber; further ones are dropped, and counted
    std::size_t max_pending_bytes = std::size_t(64) * 1024 * 1024;  // the same, counted in bytes
};
/// The options of request().
struct request_options {
    delay timeout = std::nullopt;  // std::nullopt: the connection's request_timeout
    headers_ref headers = {};      // sent with the message
};

/// Made by connect(). Belongs to its loop; any number of its tasks may use it; on another loop its calls, and those of
/// its queues and buckets, throw std::logic_error: open a connection on each loop. It is closed by its manager:
/// afterwards its calls throw std::logic_error, those of its queues jetstream::error, and generators end.
class connection {
public:
    explicit connection(std::shared_ptr<detail::nats_client> client) noexcept;
    ~connection();
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// Hands a message to the connection. It waits while there is no connection, or while max_pending bytes wait. Core
    /// NATS delivers at most once: a message that was on its way when the connection was lost is lost. A cancelled
    /// publish() has sent nothing. Throws std::invalid_argument for a malformed subject and for data beyond the
    /// server's limit; jetstream::error once the connection has given up.
    coro<> publish(std::string subject, std::string data, publish_options options = {});

    /// Gives the messages of a subject ("prices.tea", "prices.*", "prices.>") that come from now on. The subscription
    /// ends when the generator is dropped or closed. next() is revertible up to the end of the generator: a cancel ends
    /// it. A subscriber that is too slow misses messages: the next one says how many. The generator ends when the
    /// connection is closed; it throws jetstream::error if the server does not permit the subscription. Throws
    /// std::invalid_argument for a malformed subject.
    async_generator<message> subscribe(std::string subject, subscribe_options options = {});

    /// Sends a message, and gives the first answer to it. Cancelled, it forgets the answer. Throws timeout_error, or
    /// jetstream::error, at once if nobody listens there (status 503), or if the connection is lost meanwhile: then it
    /// is not known whether the message has arrived.
    coro<message> request(std::string subject, std::string data, request_options options = {});

    /// Completes when the server has got all that was sent before. Revertible. Throws jetstream::error if the
    /// connection is lost meanwhile.
    coro<> flush();

    /// Gives what happens to the connection from now on: losses, new connections, and what a server has refused. It
    /// ends when the connection is closed, or the generator is dropped. next() is revertible up to the end of the
    /// generator: a cancel ends it.
    async_generator<connection_event> events();

    connection_status status() const noexcept;  // Where the connection stands now.
    std::string server() const;                 // "127.0.0.1:4222"; empty while there is none
    /// Bytes of the largest message that the server takes, headers included; 1 MiB by default.
    std::size_t max_payload() const noexcept;
    connection_statistics statistics() const noexcept;  // The counts since connect().

    /// A queue over all machines that are connected to the same cluster: <aio/jetstream/queue.hpp>. Gives a manager for
    /// enter() and with(). T goes as to_bytes() and from_bytes() say.
    template<class T, class Options = queue_options>
    queue_manager<T> queue(std::string name, Options options = {}) {
        return queue_manager<T>(client_, std::move(name), options);
    }
    /// Deletes a queue with all its items, for everybody. Does nothing if there is none. After a cancel it is deleted
    /// or not. Throws timeout_error, jetstream::error.
    coro<> remove_queue(const std::string& name);

    /// Keys and values over all machines: <aio/jetstream/bucket.hpp>. Gives a manager for enter() and with(). The name
    /// has letters, digits, - and _ in it; others are std::invalid_argument.
    template<class T, class Options = bucket_options>
    bucket_manager<T> bucket(std::string name, Options options = {}) {
        return bucket_manager<T>(client_, std::move(name), options);
    }
    /// Deletes a bucket with all its values, for everybody. Does nothing if there is none. After a cancel it is deleted
    /// or not. Throws timeout_error, jetstream::error.
    coro<> remove_bucket(const std::string& name);

private:
    std::shared_ptr<detail::nats_client> client_;
};

/// What connect() gives: a manager for with() and enter().
class [[nodiscard("give it to with() or enter()")]] connector {
public:
    connector(std::string_view urls, const connect_options& options);  // connect() makes it.
    connector(connector&&) noexcept;
    connector& operator=(connector&&) noexcept;
    ~connector();
    /// Connects to the first server that answers, and gives the connection. A cancel ends the attempt. Throws
    /// std::system_error if none can be reached, with each server and its reason; jetstream::error if one refuses the
    /// log-in; tls_error if one cannot prove who it is.
    coro<connection&> enter();
    /// Sends what waits, for at most request_timeout, and closes the connection.
    coro<> exit(std::exception_ptr error);

private:
    std::shared_ptr<detail::nats_client> client_;
    std::unique_ptr<connection> connection_;
};

/// urls: "nats://user:password@host:4222,tls://other", any number, tried in random order. "nats://token@host" is a
/// token. The port is 4222 if none is named. Throws std::invalid_argument for a URL that makes no sense.
inline connector connect(const std::string& urls, connect_options options = {}) { return connector(urls, options); }

}  // namespace aio::inline v0::jetstream
