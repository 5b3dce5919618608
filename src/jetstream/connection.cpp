// What users see of a connection. nats_client does the work: see client.hpp.

#include "jetstream/client.hpp"
#include "jetstream/subscription.hpp"

#include <aio/errors.hpp>
#include <aio/timeout.hpp>

#include <algorithm>

namespace aio::inline v0::detail {

void nats_subscription::deliver(const nats_incoming& m) {
    const std::size_t size = m.subject.size() + m.headers.size() + m.data.size();
    if (waiting_.size() >= most_ || bytes_ + size > most_bytes_) {
        client_->missed();
        if (missed_++ == 0) client_->tell("a subscriber of " + subject + " is too slow, and misses messages");
        return;
    }
    jetstream::message next{
        std::string(m.subject), std::string(m.data), std::string(m.reply_to), parse_headers(m.headers), missed_};
    waiting_.push_back(entry{std::move(next), size});
    missed_ = 0;
    bytes_ += size;
    there_.set();
}

void nats_subscription::refused(const std::string& why) noexcept {
    try {
        refusal_ = why;
    } catch (const std::bad_alloc&) {
        // it ends, without a reason
    }
    closed();
}

void nats_subscription::closed() noexcept {
    ended_ = true;
    there_.set();
}

jetstream::message nats_subscription::take() {
    jetstream::message first = std::move(waiting_.front().message);
    bytes_ -= waiting_.front().size;
    waiting_.pop_front();
    if (waiting_.empty() && !ended_) there_.clear();
    return first;
}

bool nats_subscription::ended() const {
    if (!refusal_.empty()) throw jetstream::error(refusal_, 403);
    return ended_;
}

async_generator<jetstream::message> messages_of(std::unique_ptr<nats_subscription> s) {
    for (;;) {
        while (!s->empty()) {
            jetstream::message next = s->take();
            co_yield std::move(next);
        }
        if (s->ended()) co_return;
        co_await s->some();
    }
}

namespace {

coro<> publish_message(
    std::shared_ptr<nats_client> client, std::string subject, std::string data, std::string block, std::string reply) {
    co_await client->ready();
    client->check_size(block.size(), data.size());
    client->send(subject, reply, block, data);
}

coro<jetstream::message> ask(
    std::shared_ptr<nats_client> client, std::string subject, std::string data, std::string block, delay limit) {
    client->check_open();
    const std::string asked = "a request to " + subject;
    const time_point last = limit.has_value() ? limit.from(get_running_loop().time()) : time_point::max();
    bool late = false;
    if (!client->is_ready()) {
        try {
            co_await wait_for(client->ready(), limit);
        } catch (const timeout_error&) { late = true; }
    }
    if (late) throw timeout_error("jetstream: " + asked + " was not sent: there is no connection");
    client->check_size(block.size(), data.size());
    const delay left = limit.has_value() ? delay(last - get_running_loop().time()) : limit;
    nats_answer answer(*client, left);
    client->send(subject, answer.inbox(), block, data);
    nats_reply reply = co_await answer;
    switch (reply.what) {
        case nats_reply::kind::timed_out: throw timeout_error("jetstream: " + asked + " has got no answer in time");
        case nats_reply::kind::lost: throw jetstream::error(asked + ": the connection was lost before an answer came");
        case nats_reply::kind::closed: client->check_open(); break;
        case nats_reply::kind::answered: break;
    }
    if (reply.status == 503 && reply.data.empty()) throw jetstream::error(asked + ": nobody answers there", 503);
    co_return jetstream::message{
        std::move(reply.subject), std::move(reply.data), std::string(), parse_headers(reply.headers), 0};
}

coro<> wait_for_pong(std::shared_ptr<nats_client> client) {
    co_await client->ready();
    nats_answer answer(*client, std::nullopt);
    client->send_ping(&answer);
    const nats_reply reply = co_await answer;
    if (reply.what == nats_reply::kind::lost) throw jetstream::error("flush: the connection was lost");
    if (reply.what == nats_reply::kind::closed) client->check_open();
}

async_generator<jetstream::connection_event> events_of(
    [[maybe_unused]] std::shared_ptr<nats_client> client, broadcast<jetstream::connection_event>::subscription in) {
    for (;;) {
        bool behind = false;
        try {
            auto next = co_await in.next();
            if (!next) co_return;
            jetstream::connection_event e = std::move(*next);
            co_yield std::move(e);
        } catch (const broadcast_lagged&) { behind = true; }
        static_cast<void>(behind);
    }
}

}  // namespace
}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

const char* to_string(connection_status s) noexcept {
    switch (s) {
        case connection_status::connecting: return "connecting";
        case connection_status::connected: return "connected";
        case connection_status::reconnecting: return "reconnecting";
        case connection_status::closed: break;
    }
    return "closed";
}

connection::connection(std::shared_ptr<detail::nats_client> client) noexcept : client_(std::move(client)) {}
connection::~connection() = default;

coro<> connection::publish(std::string subject, std::string data, publish_options options) {
    detail::check_subject(subject, false, "jetstream::publish");
    if (!options.reply_to.empty()) detail::check_subject(options.reply_to, false, "jetstream::publish, reply_to");
    return detail::publish_message(client_, std::move(subject), std::move(data),
        detail::headers_block(options.headers.get()), std::string(options.reply_to));
}

async_generator<message> connection::subscribe(std::string subject, subscribe_options options) {
    detail::check_subject(subject, true, "jetstream::subscribe");
    if (!options.queue_group.empty()) {
        detail::check_subject(options.queue_group, false, "jetstream::subscribe, queue_group");
    }
    return detail::messages_of(std::make_unique<detail::nats_subscription>(
        client_, std::move(subject), std::string(options.queue_group), options.max_pending, options.max_pending_bytes));
}

coro<message> connection::request(std::string subject, std::string data, request_options options) {
    detail::check_subject(subject, false, "jetstream::request");
    const delay limit = options.timeout.has_value() ? options.timeout : client_->settings().numbers.request_timeout;
    return detail::ask(
        client_, std::move(subject), std::move(data), detail::headers_block(options.headers.get()), limit);
}

coro<> connection::flush() { return detail::wait_for_pong(client_); }

async_generator<connection_event> connection::events() {
    return detail::events_of(client_, client_->events().subscribe());
}

connection_status connection::status() const noexcept { return client_->status(); }
std::string connection::server() const { return client_->server(); }
std::size_t connection::max_payload() const noexcept { return client_->max_payload(); }
connection_statistics connection::statistics() const noexcept { return client_->statistics(); }

connector::connector(std::string_view urls, const connect_options& options)
    : client_(std::make_shared<detail::nats_client>(detail::parse_servers(urls), options)) {}
connector::connector(connector&&) noexcept = default;
connector& connector::operator=(connector&&) noexcept = default;
connector::~connector() = default;

coro<connection&> connector::enter() {
    auto made = std::make_unique<connection>(client_);  // first: what is open has to reach its caller
    co_await client_->open();
    connection_ = std::move(made);
    co_return *connection_;
}

coro<> connector::exit(std::exception_ptr) { co_await client_->close(); }

}  // namespace aio::inline v0::jetstream
