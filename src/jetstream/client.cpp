// What a connection sends and gets while it is there: see client.hpp. src/jetstream/connecting.cpp makes it, and makes
// it anew.

#include "jetstream/client.hpp"
#include "jetstream/json.hpp"

#include <aio/errors.hpp>
#include <aio/race.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace aio::inline v0::detail {

using jetstream::connection_status;

// ---- answers ----

nats_answer::nats_answer(nats_client& client, delay limit, bool must_know)
    : client_(&client),
      token_(++client.last_token_),
      deadline_(limit.has_value() ? limit.from(get_running_loop().time()) : time_point::max()),
      must_know_(must_know) {
    client.check_open();
    client.arm(deadline_);
    client.answers_.emplace(token_, this);
}

nats_answer::~nats_answer() { client_->answers_.erase(token_); }

std::string nats_answer::inbox() const { return client_->inbox_ + std::to_string(token_); }

void nats_answer::settle(nats_reply&& reply) noexcept {
    client_->answers_.erase(token_);
    reply_ = std::move(reply);
    done_ = true;
    wake();
}

/// Has all inboxes of this connection, and gives each answer to who waits for it.
class nats_client::inbox_sink final : public nats_sink {
public:
    explicit inbox_sink(nats_client& client) : nats_sink(client.inbox_ + "*", ""), client_(&client) {}
    void deliver(const nats_incoming& m) override { client_->answered(m); }

private:
    nats_client* client_;
};

void nats_client::answered(const nats_incoming& m) {
    std::uint64_t token = 0;
    const std::string_view text = m.subject.substr(std::min(inbox_.size(), m.subject.size()));
    std::from_chars(text.data(), text.data() + text.size(), token);
    const auto found = answers_.find(token);
    if (found == answers_.end()) return;  // nobody waits for it any more
    nats_reply reply{nats_reply::kind::answered, status_of(m).code, std::string(m.subject), std::string(m.headers),
        std::string(m.data)};
    found->second->settle(std::move(reply));
}

void nats_client::settle_all(nats_reply::kind what) noexcept {
    while (!answers_.empty()) {
        nats_reply reply;
        reply.what = what;
        answers_.begin()->second->settle(std::move(reply));
    }
}

/// One timer serves all answers that have a limit. It is armed for the first of them, and looks at all.
void nats_client::arm(time_point at) {
    if (at >= timer_at_) return;
    callback_handle earlier = get_running_loop().call_at(at, [weak = weak_from_this()] {
        if (const std::shared_ptr<nats_client> self = weak.lock()) self->expire();
    });
    timer_.cancel();
    timer_ = std::move(earlier);
    timer_at_ = at;
}

void nats_client::expire() noexcept {
    timer_at_ = time_point::max();
    const time_point now = get_running_loop().time();
    time_point next = time_point::max();
    for (auto at = answers_.begin(); at != answers_.end();) {
        nats_answer* const answer = (at++)->second;
        if (answer->deadline_ <= now) {
            answer->settle(nats_reply());  // which takes it out of answers_
        } else {
            next = std::min(next, answer->deadline_);
        }
    }
    try {
        if (next != time_point::max()) arm(next);
    } catch (const std::bad_alloc&) {
        settle_all(nats_reply::kind::timed_out);  // without a timer nobody would end their waits
    }
}

// ---- sending ----

nats_client::nats_client(std::vector<nats_server> servers, const jetstream::connect_options& options)
    : settings_(options), servers_(std::move(servers)), inbox_sink_(std::make_unique<inbox_sink>(*this)) {
    for (std::size_t i = servers_.size(); i > 1; --i) std::swap(servers_[i - 1], servers_[random_below(i)]);
    inbox_sink_->sid = ++last_sid_;
    sinks_.emplace(inbox_sink_->sid, inbox_sink_.get());
}

nats_client::~nats_client() { timer_.cancel(); }

void nats_client::check_open() const {
    const loop_core* const here = local().loop;
    if (here && loop_ && here != loop_) throw_logic_error("this jetstream::connection belongs to another event loop");
    if (!is_closed()) return;
    if (closing_) throw_logic_error("this jetstream::connection is closed");
    throw jetstream::error("the connection is closed: " + why_closed_);
}

void nats_client::check_size(std::size_t headers, std::size_t data) const {
    if (headers + data <= max_payload_) return;
    throw std::invalid_argument("jetstream: a message of " + std::to_string(headers + data) +
        " bytes is larger than the server takes, which is " + std::to_string(max_payload_));
}

coro<> nats_client::ready() {
    for (;;) {
        check_open();
        if (status_ != connection_status::connected) {
            co_await usable_.wait();
        } else if (!has_room()) {
            room_.clear();
            co_await room_.wait();
        } else {
            co_return;
        }
    }
}

void nats_client::send(
    std::string_view subject, std::string_view reply_to, std::string_view headers, std::string_view data) {
    if (is_closed()) return;
    const std::size_t before = out_.size();
    char digits[24];
    const auto add_number = [&](std::size_t n) {
        const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, n);
        out_.append(digits, end.ptr);
    };
    try {
        out_.append(headers.empty() ? "PUB " : "HPUB ").append(subject);
        if (!reply_to.empty()) out_.append(1, ' ').append(reply_to);
        out_ += ' ';
        if (!headers.empty()) {
            add_number(headers.size());
            out_ += ' ';
        }
        add_number(headers.size() + data.size());
        out_.append("\r\n").append(headers).append(data).append("\r\n");
    } catch (...) {
        out_.resize(before);
        throw;
    }
    ++numbers_.messages_out;
    numbers_.bytes_out += headers.size() + data.size();
    sendable_.set();
}

void nats_client::send_ping(nats_answer* asks) {
    send_line("PING");
    try {
        pings_.push_back(asks ? asks->token_ : 0);
    } catch (...) {
        out_.resize(out_.size() - 6);  // its PONG would be taken for that of another
        throw;
    }
}

/// All of the line, or nothing: part of one would spoil what is sent behind it.
void nats_client::send_line(std::string_view begin, std::string_view more, std::uint64_t sid) {
    const std::size_t before = out_.size();
    try {
        out_.append(begin).append(more);
        if (sid != 0) out_.append(more.empty() ? "" : " ").append(std::to_string(sid));
        out_ += "\r\n";
    } catch (...) {
        out_.resize(before);
        throw;
    }
    sendable_.set();
}

void nats_client::subscribe_line(const nats_sink& sink) {
    send_line("SUB ", sink.group.empty() ? sink.subject : sink.subject + " " + sink.group, sink.sid);
}

void nats_client::add(nats_sink& sink) {
    check_open();
    const std::uint64_t sid = ++last_sid_;
    const auto added = sinks_.emplace(sid, &sink).first;
    sink.sid = sid;
    if (status_ != connection_status::connected) return;  // all of sinks_ are subscribed once it is
    try {
        subscribe_line(sink);
    } catch (...) {
        sinks_.erase(added);
        throw;
    }
}

void nats_client::remove(nats_sink& sink) noexcept {
    if (sinks_.erase(sink.sid) == 0 || status_ != connection_status::connected) return;
    try {
        send_line("UNSUB ", {}, sink.sid);
    } catch (const std::bad_alloc&) {
        // the server goes on sending, and nobody hears it
    }
}

// ---- reading ----

void nats_client::on_message(const nats_incoming& m) {
    ++numbers_.messages_in;
    numbers_.bytes_in += m.headers.size() + m.data.size();
    const auto found = sinks_.find(m.sid);
    if (found == sinks_.end()) return;  // it was on its way when its subscription ended
    try {
        found->second->deliver(m);
    } catch (const std::bad_alloc&) {
        missed();
        tell("a message was dropped for want of memory");
    }
}

void nats_client::on_info(std::string_view text) {
    const json_view info = json_view::of(text);
    if (!info.is_object()) return;
    max_payload_ = info["max_payload"].number(max_payload_);
    int major = 0, minor = 0;
    if (std::sscanf(info["version"].string().c_str(), "%d.%d", &major, &minor) == 2) version_ = {major, minor};
    if (info["ldm"].boolean(false)) leaving_ = true;
    if (!settings_.numbers.discover) return;
    std::vector<nats_server> named;
    info["connect_urls"].each([&](json_view url) {
        try {
            named.push_back(parse_servers(url.string()).front());
        } catch (const std::invalid_argument&) {
            // a server's address that is none
        }
        return true;
    });
    discovered(std::move(named));
}

/// The cluster has named its servers. Those that it named before and does not name any more are gone: in a cluster
/// whose servers move, they would be tried in vain at each loss, and be more and more.
void nats_client::discovered(std::vector<nats_server> named) {
    const auto is_in = [](const std::vector<nats_server>& all, const nats_server& one) {
        return std::any_of(
            all.begin(), all.end(), [&](const nats_server& s) { return s.host == one.host && s.port == one.port; });
    };
    if (named.empty()) return;
    const nats_server like = servers_.front();
    for (nats_server& one : named) {
        if (is_in(servers_, one)) continue;
        one.user = like.user;
        one.password = like.password;
        one.token = like.token;
        one.tls = like.tls;
        one.discovered = true;
        servers_.push_back(one);
    }
    for (std::size_t i = servers_.size(); i-- > 0;) {
        if (i == current_ || !servers_[i].discovered || is_in(named, servers_[i])) continue;
        servers_.erase(servers_.begin() + static_cast<std::ptrdiff_t>(i));
        if (i < current_) --current_;
    }
}

void nats_client::on_ping() { send_line("PONG"); }

void nats_client::on_pong() {
    silent_pings_ = 0;
    if (pings_.empty()) return;
    const std::uint64_t token = pings_.front();
    pings_.pop_front();
    const auto found = answers_.find(token);
    if (found == answers_.end()) return;
    nats_reply reply;
    reply.what = nats_reply::kind::answered;
    found->second->settle(std::move(reply));
}

void nats_client::on_error(std::string_view text) {
    const std::string reason(text);
    constexpr std::string_view refusal = "Permissions Violation for Subscription to \"";
    const std::size_t at = reason.find(refusal);
    if (at != std::string::npos) {
        const std::size_t begin = at + refusal.size();
        const std::string subject = reason.substr(begin, reason.find('"', begin) - begin);
        std::vector<nats_sink*> all;
        for (const auto& [sid, sink] : sinks_) {
            if (sink->subject == subject) all.push_back(sink);
        }
        for (nats_sink* sink : all) sink->refused(reason);
    }
    tell(reason);
}

coro<> nats_client::read_loop() {
    for (;;) {
        const std::size_t n = co_await stream_.read_some(parser_.room());
        if (n == 0) throw std::runtime_error("the server has closed the connection");
        parser_.parse(n, *this);
        silent_pings_ = 0;
        if (leaving_ && servers_.size() > 1) leave_.set();
    }
}

coro<> nats_client::write_loop() {
    for (;;) {
        while (out_.empty() || hold_) {
            sendable_.clear();
            co_await sendable_.wait();
        }
        writing_.clear();
        writing_.swap(out_);
        hold_ = last_write_;
        room_.set();
        co_await stream_.write(std::string_view(writing_));
    }
}

coro<> nats_client::ping_loop() {
    const delay interval = settings_.numbers.ping_interval;
    for (;;) {
        co_await sleep(interval);
        if (silent_pings_ >= 2) throw std::runtime_error("the server does not answer any more");
        ++silent_pings_;
        send_ping(nullptr);
    }
}

/// The server is about to end. What has been sent until now still goes there, and its PONG says that it has arrived;
/// what is sent from now on waits for the next server. So nothing is lost.
coro<> nats_client::leave_loop() {
    co_await leave_.wait();
    nats_answer arrived(*this, std::chrono::seconds(2));
    send_ping(&arrived);
    last_write_ = true;
    static_cast<void>(co_await arrived);
    throw std::runtime_error("the server is about to end");
}

coro<> nats_client::serve() {
    if (settings_.numbers.ping_interval.has_value()) {
        co_await race(read_loop(), write_loop(), ping_loop(), leave_loop());
    } else {
        co_await race(read_loop(), write_loop(), leave_loop());
    }
}

void nats_client::tell(std::string_view reason) noexcept {
    if (events_.closed()) return;
    try {
        events_.send(jetstream::connection_event{status_, server(), std::string(reason)});
    } catch (const std::bad_alloc&) {
        // an event less
    }
}

std::string nats_client::server() const {
    return status_ == connection_status::connected ? servers_[current_].address() : std::string();
}

jetstream::connection_statistics nats_client::statistics() const noexcept {
    jetstream::connection_statistics s = numbers_;
    s.subscriptions = sinks_.size() - 1;  // that of the inboxes is the connection's own
    s.requests = answers_.size();
    s.pending = out_.size();
    return s;
}

}  // namespace aio::inline v0::detail
