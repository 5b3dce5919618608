#pragma once
// The connection to one server of a cluster, and to the next one when that is lost: see
// docs/internals/jetstream.md. Everything of aio::jetstream stands on it and shares it.
//
// What is sent goes into out_, which a task writes; what comes is cut by nats_parser and given to the sink of its
// subscription, or to the nats_answer that waits for it. Nothing here is of JetStream: src/jetstream/api.hpp is.

#include "jetstream/protocol.hpp"
#include "jetstream/servers.hpp"

#include <aio/broadcast.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/event.hpp>
#include <aio/event_loop.hpp>
#include <aio/jetstream/connection.hpp>
#include <aio/stream.hpp>
#include <aio/task.hpp>

#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aio::inline v0::detail {

class nats_client;

/// Gets the messages of a subscription. Its functions run on the loop's thread, in the middle of reading: they wait for
/// nothing, and may remove this sink and any other.
class nats_sink {
public:
    nats_sink(std::string subject_, std::string group_) : subject(std::move(subject_)), group(std::move(group_)) {}
    virtual ~nats_sink() = default;
    virtual void deliver(const nats_incoming& m) = 0;
    /// A connection was made, and the subscription is about to be. It may give itself another subject here.
    virtual void subscribing() {}
    /// The connection was made anew, and the subscription with it. What the old server had under way is lost.
    virtual void reconnected() noexcept {}
    virtual void refused(const std::string&) noexcept {}  // by the server
    virtual void closed() noexcept {}                     // no message will come any more

    std::string subject;
    const std::string group;
    std::uint64_t sid = 0;  // 0: not subscribed
};

struct nats_reply {
    enum class kind : std::uint8_t { answered, timed_out, lost, closed };
    kind what = kind::timed_out;
    int status = 0;
    std::string subject, headers, data;
};

/// An answer that somebody waits for: of a request, or a PONG. Made before the question is sent, in the frame of the
/// coroutine that awaits it, once. If the connection is lost meanwhile it says so at once.
class [[nodiscard]] nats_answer final : public irrevocable<nats_answer> {
public:
    /// must_know: a cancel does not end the wait, but an answer, the loss of the connection, or the limit.
    nats_answer(nats_client& client, delay limit, bool must_know = false);
    nats_answer(const nats_answer&) = delete;
    nats_answer& operator=(const nats_answer&) = delete;
    ~nats_answer();
    /// The subject that an answer goes to.
    std::string inbox() const;

    bool start() const noexcept { return done_; }
    void postpone() const noexcept {}
    bool unpark() const noexcept { return !must_know_; }
    void revert() const noexcept {}
    nats_reply finish() { return std::move(reply_); }
    void describe(std::string& out) const override { out += "an answer of a NATS server"; }

private:
    friend class nats_client;
    void settle(nats_reply&& reply) noexcept;

    nats_client* client_;
    std::uint64_t token_;
    time_point deadline_;
    bool must_know_;
    bool done_ = false;
    nats_reply reply_;
};

/// A cancel that is due is thrown here; otherwise it completes at once. To be awaited before something is sent whose
/// answer a cancel does not end the wait for: a task that sends again and again would else never be cancelled.
class [[nodiscard]] nats_cancel_point final : public irrevocable<nats_cancel_point> {
public:
    bool start() const noexcept { return true; }
    void unpark() const noexcept {}
    void revert() const noexcept {}
    void finish() const noexcept {}
    void describe(std::string& out) const override { out += "its turn to send to a NATS server"; }
};

/// For simulations: if it is not empty, it makes the streams of this thread's connections, in place of
/// open_connection().
using nats_dialer = std::function<coro<stream>(const nats_server&)>;
nats_dialer& this_threads_dialer() noexcept;

/// A copy of connect_options and what they refer to.
struct nats_settings {
    explicit nats_settings(const jetstream::connect_options& o);
    jetstream::connect_options numbers;  // of which only what refers to nothing is used
    std::string name, user, password, token, jwt, seed;
    tls_context context;  // empty: none
};

class nats_client final : public std::enable_shared_from_this<nats_client>, nats_parser::handler {
public:
    nats_client(std::vector<nats_server> servers, const jetstream::connect_options& options);
    ~nats_client();

    coro<> open();   // see connector::enter()
    coro<> close();  // see connector::exit()

    // Sending.
    /// Waits until there is a connection, and room for more. Throws once the connection is closed.
    coro<> ready();
    bool is_ready() const noexcept { return status_ == jetstream::connection_status::connected && has_room(); }
    /// Adds a message to what is sent next, or once there is a connection. Does nothing once that is closed.
    void send(std::string_view subject, std::string_view reply_to, std::string_view headers, std::string_view data);
    void send_ping(nats_answer* asks);  // null: nobody waits for the answer
    void check_open() const;
    void check_size(std::size_t headers, std::size_t data) const;  // std::invalid_argument

    // Subscribing. A sink must be removed before it goes.
    void add(nats_sink& sink);
    void remove(nats_sink& sink) noexcept;
    std::string new_inbox() { return inbox_ + std::to_string(++last_token_); }

    jetstream::connection_status status() const noexcept { return status_; }
    /// Why the connection has ended by itself. Empty if it has not.
    std::string_view why_ended() const noexcept { return closing_ ? std::string_view() : why_closed_; }
    const nats_settings& settings() const noexcept { return settings_; }
    std::string server() const;
    std::size_t max_payload() const noexcept { return max_payload_; }
    std::pair<int, int> server_version() const noexcept { return version_; }  // 2.9.10 is {2, 9}
    jetstream::connection_statistics statistics() const noexcept;
    broadcast<jetstream::connection_event>& events() noexcept { return events_; }
    void tell(std::string_view reason) noexcept;
    void missed() noexcept { ++numbers_.missed; }
    const std::string& unique() const noexcept { return unique_; }  // a text that no other connection has
    std::uint64_t next_number() noexcept { return ++last_number_; }

private:
    friend class nats_answer;
    class inbox_sink;

    coro<> run(std::shared_ptr<nats_client> self);
    coro<> serve();
    coro<> read_loop();
    coro<> write_loop();
    coro<> ping_loop();
    coro<> leave_loop();
    coro<> try_all(bool first, std::string& reasons);
    coro<bool> reconnect(std::string& why);
    coro<> attempt(nats_server server);
    static coro<stream> dial(const nats_server& server);
    coro<stream> log_in(const nats_server& server);  // which lives until then
    std::string connect_line(const nats_server& server, const std::string& nonce) const;
    void began(stream s);
    void lost(std::string_view why) noexcept;
    void end(std::string_view why) noexcept;

    void on_message(const nats_incoming& m) override;
    void on_info(std::string_view json) override;
    void on_ping() override;
    void on_pong() override;
    void on_error(std::string_view text) override;

    void answered(const nats_incoming& m);
    void settle_all(nats_reply::kind what) noexcept;
    void expire() noexcept;
    void arm(time_point at);
    void send_line(std::string_view begin, std::string_view more = {}, std::uint64_t sid = 0);
    void subscribe_line(const nats_sink& sink);
    void discovered(std::vector<nats_server> named);
    bool has_room() const noexcept { return out_.size() <= settings_.numbers.max_pending; }
    bool is_closed() const noexcept { return status_ == jetstream::connection_status::closed; }

    nats_settings settings_;
    std::vector<nats_server> servers_;
    std::size_t current_ = 0;  // of servers_: the one connected to, or the one that is tried next
    jetstream::connection_status status_ = jetstream::connection_status::connecting;
    std::string why_closed_;
    const loop_core* loop_ = nullptr;  // where it was opened

    stream stream_;
    nats_parser parser_;
    std::string out_, writing_;
    event sendable_, room_, usable_;  // there is something to send; there is room for more; connected, or closed
    task<> run_;
    event stopped_;  // run_ has ended
    bool closing_ = false;
    bool leaving_ = false;     // the server is about to end
    event leave_;              // and there is another one
    bool last_write_ = false;  // what is in out_ is the last that this server gets
    bool hold_ = false;        // it has got that: what is in out_ now is for the next one
    int silent_pings_ = 0;
    std::size_t max_payload_ = std::size_t(1024) * 1024;
    std::pair<int, int> version_{0, 0};

    std::unordered_map<std::uint64_t, nats_sink*> sinks_;
    std::uint64_t last_sid_ = 0;
    std::unordered_map<std::uint64_t, nats_answer*> answers_;
    std::deque<std::uint64_t> pings_;  // which answer each PONG belongs to; 0: none
    std::uint64_t last_token_ = 0;
    std::uint64_t last_number_ = 0;
    std::string unique_ = unique_text(16);
    std::string inbox_ = "_INBOX." + unique_ + ".";
    std::unique_ptr<inbox_sink> inbox_sink_;
    callback_handle timer_;
    time_point timer_at_ = time_point::max();
    broadcast<jetstream::connection_event> events_{64};
    jetstream::connection_statistics numbers_{};
};

}  // namespace aio::inline v0::detail
