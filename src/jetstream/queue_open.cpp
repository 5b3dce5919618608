// How a queue is found or made on the servers, shut down and left: see queue_state.hpp.

#include "jetstream/queue_sinks.hpp"

#include <aio/errors.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace aio::inline v0::detail {
namespace {

constexpr int asks_without_memory = 8;  // in a row, in a second or so

[[noreturn]] void differs(const std::string& name, const char* what, std::int64_t there, std::int64_t here) {
    throw jetstream::error(
        "the queue " + name + " exists with " + what + " " + std::to_string(there) + ", not " + std::to_string(here));
}

void check_is_queue(const std::string& stream, json_view config) {
    const json_view subjects = config["subjects"];
    const std::string begin = "aio.queue." + stream;
    const bool ours = subjects.is_only(begin + ".items") || subjects.is_only(begin + ".shut");
    if (ours && config["retention"].string() == "workqueue") return;
    throw jetstream::error("the stream " + stream + " exists, and is no queue of aio");
}

jetstream::queue_options without_references(jetstream::queue_options o) {
    o.dead_letters = {};
    return o;
}

}  // namespace

nats_queue::nats_queue(client_ptr client, std::string name, const jetstream::queue_options& options)
    : client_(std::move(client)),
      name_(std::move(name)),
      options_(without_references(options)),
      dead_letters_(options.dead_letters),
      stream_(stream_name(name_, "jetstream::queue")),
      subject_("aio.queue." + stream_ + ".items"),
      shut_subject_("aio.queue." + stream_ + ".shut"),
      news_subject_("aio.queue." + stream_ + ".news"),
      news_come_(std::make_unique<news_sink>(*this, news_subject_)),
      elections_come_(std::make_unique<election_sink>(*this, stream_)),
      stream_elections_come_(std::make_unique<stream_election_sink>(*this, stream_)) {
    const auto refuse = [](const char* why) { throw std::invalid_argument(std::string("jetstream::queue: ") + why); };
    if (options.replicas < 0 || options.replicas > 5) refuse("replicas is a number from 1 to 5");
    if (options.max_deliver < 0) refuse("max_deliver is negative");
    if (options.ack_wait.has_value() && options.ack_wait.value() < std::chrono::milliseconds(10)) {
        refuse("ack_wait is shorter than 10 ms");
    }
    if (!dead_letters_.empty()) {
        if (options.max_deliver == 0) refuse("dead_letters without max_deliver: nothing would go there");
        if (dead_letters_ == name_) refuse("dead_letters is the queue itself");
        dead_subject_ = "aio.queue." + stream_name(dead_letters_, "jetstream::queue, dead_letters") + ".items";
    }
    for (std::size_t i = 0; i < pulls_.size(); ++i) { pulls_[i].sink = std::make_unique<pull_sink>(*this, i); }
}

nats_queue::~nats_queue() {
    timer_.cancel();
    if (open_) stop_hearing();  // it was opened, but its manager could not give it to anybody
}

void nats_queue::check_open() const {
    if (failure_) {
        const std::string reason(client_->why_ended());
        throw jetstream::error("the queue " + name_ + " " + failure_ + (reason.empty() ? "" : ": " + reason));
    }
    if (!open_) throw_logic_error("the jetstream::queue " + name_ + " has been left");
    client_->check_open();
}

std::string nats_queue::wanted_stream(const std::string& stream) const {
    const bool own = stream == stream_;
    json_writer config;
    config.add("name", stream).add_json("subjects", "[\"aio.queue." + stream + ".items\"]");
    config.add("retention", "workqueue").add("discard", "new").add("storage", options_.in_memory ? "memory" : "file");
    config.add("num_replicas", options_.replicas ? options_.replicas : 1);
    config.add("duplicate_window", nanoseconds_of(options_.duplicate_window, duplicate_window_.count()));
    config.add("max_consumers", -1).add("max_bytes", -1).add("max_age", 0).add("max_msg_size", -1);
    const auto most = own && options_.maxsize ? static_cast<std::int64_t>(options_.maxsize) : std::int64_t(-1);
    return config.add("max_msgs", most).text();
}

/// Gives the configuration of the stream, which is made if there is none.
coro<std::string> nats_queue::ensure_stream(std::string stream) {
    for (int tries = 0;; ++tries) {
        std::string info = co_await find_in_jetstream(client_, "STREAM.INFO." + stream);
        if (info.empty()) {
            bool made_meanwhile = false;
            try {
                info = co_await ask_jetstream(client_, "STREAM.CREATE." + stream, wanted_stream(stream));
            } catch (const jetstream::error& e) {
                if (e.code() != 10058 || tries > 3) throw;  // somebody else has made it, with other options
                made_meanwhile = true;
            }
            if (made_meanwhile) continue;
        }
        co_return std::string(json_view::of(info)["config"].text());
    }
}

/// Takes over what the queue has, and checks what was asked for.
void nats_queue::adopt(json_view config) {
    const bool is_shut = config["subjects"].is_only(shut_subject_);
    check_is_queue(stream_, config);
    const auto most = config["max_msgs"].number(std::int64_t(-1));
    if (options_.maxsize && most != static_cast<std::int64_t>(options_.maxsize)) {
        differs(name_, "a maxsize of", std::max<std::int64_t>(most, 0), static_cast<std::int64_t>(options_.maxsize));
    }
    maxsize_ = most > 0 ? static_cast<std::size_t>(most) : 0;
    const int replicas = config["num_replicas"].number(1);
    replicated_ = replicas > 1;
    if (options_.replicas && options_.replicas != replicas) differs(name_, "replicas", replicas, options_.replicas);
    const auto window = config["duplicate_window"].number(duplicate_window_.count());
    if (options_.duplicate_window.has_value() && nanoseconds_of(options_.duplicate_window) != window) {
        differs(name_, "a duplicate_window in ns of", window, nanoseconds_of(options_.duplicate_window));
    }
    duplicate_window_ = std::chrono::nanoseconds(window);
    shut_ = is_shut;
}

/// Whether a queue is shut down stands in the subject of its stream: the servers themselves refuse what is put then.
coro<> nats_queue::set_shut(bool shut) {
    const std::string info = co_await ask_jetstream(client_, info_subject());
    const json_view config = json_view::of(info)["config"];
    const std::string& subject = shut ? shut_subject_ : subject_;
    if (!config["subjects"].is_only(subject)) {
        std::string changed = json_with(config, "subjects", "[" + json_string(subject) + "]");
        co_await ask_jetstream(client_, "STREAM.UPDATE." + stream_, std::move(changed));
    }
    shut_ = shut;
}

coro<> nats_queue::open() {
    if (open_) throw_logic_error("a jetstream::queue is entered once");
    const std::string config = co_await ensure_stream(stream_);
    adopt(json_view::of(config));
    const std::string consumer = co_await ensure_consumer(false);
    const auto there = json_view::of(consumer)["config"]["ack_wait"].number(ack_wait_.count());
    if (options_.ack_wait.has_value() && there != nanoseconds_of(options_.ack_wait)) {
        differs(name_, "an ack_wait in ns of", there, nanoseconds_of(options_.ack_wait));
    }
    ack_wait_ = std::chrono::nanoseconds(there);
    if (!dead_letters_.empty()) {
        const std::string stream = stream_name(dead_letters_, "jetstream::queue, dead_letters");
        const std::string dead = co_await ensure_stream(stream);
        const json_view dead_config = json_view::of(dead);
        check_is_queue(stream, dead_config);
        adopt_dead_letters(dead_config);
    }
    if (shut_ && options_.reopen) co_await set_shut(false);
    open_ = true;
    try {
        client_->add(*news_come_);
        for (pull& p : pulls_) client_->add(*p.sink);
        if (replicated_) {
            client_->add(*elections_come_);
            client_->add(*stream_elections_come_);
        }
        numbers_may_be_doubled();
        ask_what_was_given();
    } catch (...) {
        stop_hearing();
        throw;
    }
    if (shut_) was_shut();
}

void nats_queue::stop_hearing() noexcept {
    open_ = false;
    client_->remove(*news_come_);
    client_->remove(*elections_come_);
    client_->remove(*stream_elections_come_);
    for (pull& p : pulls_) {
        client_->remove(*p.sink);
        p.left = 0;
    }
    asked_ = 0;
}

/// Gives back what this process has. The acknowledgements of task_done() are sent before.
///
/// nats-server 2.9.10 forgets that an item was given before, if it comes back while the requests of this process, which
/// nobody hears any more, are the only ones. It drops those when it is asked about the consumer.
coro<> nats_queue::close() {
    if (!open_) co_return;
    const bool requests_left = asked_ > 0;
    stop_hearing();
    timer_.cancel();
    ready_.shutdown();
    if (watch_) watch_.cancel();
    const auto has_items = [](const auto& holding) { return !holding.second.items.empty(); };
    const bool gives_back = !ready_.empty() || std::any_of(holders_.begin(), holders_.end(), has_items);
    std::exception_ptr cancelled;
    if (requests_left && gives_back && client_->is_ready()) {
        try {
            static_cast<void>(co_await find_in_jetstream(client_, "CONSUMER.INFO." + consumer_path()));
        } catch (const std::exception&) {
            // then what comes back may not be marked
        } catch (...) { cancelled = std::current_exception(); }
    }
    while (!ready_.empty()) static_cast<void>(ready_.get_nowait());
    for (auto& [task, h] : holders_) h.items.clear();
    if (cancelled) std::rethrow_exception(cancelled);
}

coro<std::size_t> nats_queue::size() {
    check_open();
    const std::string info = co_await ask_jetstream(client_, info_subject());
    const json_view state = json_view::of(info)["state"];
    forget_unburied_before(state["first_seq"].number(std::uint64_t(0)));
    co_return state["messages"].number(std::size_t(0));
}

coro<> nats_queue::join() {
    std::chrono::milliseconds pause{5};
    std::optional<time_point> full_since;
    for (int nothing = 0; nothing < 2;) {
        const std::size_t left = co_await size();
        if (left == 0) {
            const std::string said = co_await ensure_consumer(true);
            const json_view info = json_view::of(said);
            const auto waiting = info["num_pending"].number(std::uint64_t(0));
            const auto worked_on = info["num_ack_pending"].number(std::uint64_t(0));
            if (waiting == 0 && worked_on == 0) {
                ++nothing;  // a server that has just become the leader is asked once more
                continue;
            }
        }
        nothing = 0;
        const std::string hindered = co_await what_hinders(left, full_since);
        if (!hindered.empty()) throw jetstream::error("join of " + hindered);
        co_await sleep(pause);
        pause = std::min(pause * 3 / 2, std::chrono::milliseconds(200));
    }
}

coro<> nats_queue::shutdown(bool immediate) {
    check_open();
    co_await set_shut(true);
    if (immediate) {
        co_await ask_jetstream(client_, "STREAM.PURGE." + stream_);
        drop_ready();
    }
    client_->send(news_subject_, {}, {}, immediate ? "shut at once" : "shut");
    was_shut();
}

/// Asks the servers whether the queue is shut down, or gone, because something has failed that would not otherwise.
coro<> nats_queue::look() {
    std::string info;
    try {
        info = co_await find_in_jetstream(client_, info_subject());
    } catch (const std::runtime_error&) {
        co_return;  // nobody can say: whoever asks tries again
    }
    if (info.empty()) {
        fail("was removed");
        co_return;
    }
    if (json_view::of(info)["config"]["subjects"].is_only(shut_subject_)) was_shut();
    try {
        co_await ensure_consumer(true);  // somebody may have deleted it, or the queue and made it anew
    } catch (const std::runtime_error&) {
        // whoever asks tries again
    }
}

void nats_queue::fail(const char* why) noexcept {
    if (failure_) return;
    failure_ = why;
    ready_.shutdown();
    acknowledged_.set();
}

void nats_queue::news(const nats_incoming& m) {
    const std::string_view text = m.data;
    if (text.starts_with("asked ")) asked(m);
    if (text.starts_with("doubted ")) doubted_.add(std::string(text.substr(8)), 1);
    if (text == "consumer") check_soon();
    if (text == "given?") tell_what_was_given();
    if (text.starts_with("given ")) heard_what_was_given(text.substr(6));
    if (text.starts_with("unburied ")) heard_of_unburied(text.substr(9));
    if (text.starts_with("buried ")) was_buried(number_in(text.substr(7)));
    if (text.starts_with("stored ")) heard_numbers(text.substr(7));
    if (!text.starts_with("shut")) return;
    if (text == "shut at once") drop_ready();
    was_shut();
}

/// The queue is shut down. Tasks in get() go on until nothing is left, which has to be asked.
void nats_queue::was_shut() {
    if (watch_ || !open_) return;
    shut_ = true;
    acknowledged_.set();
    watch_ = create_task(watch_the_end(shared_from_this()), {.name = "jetstream::queue"});
    watch_.detail_state()->set_internal();
}

/// Whether tasks wait in get() in vain: nothing is left but items that they hold themselves, or that cannot be buried.
coro<bool> nats_queue::nothing_comes(std::optional<time_point>& full_since) {
    const std::size_t left = co_await size();
    const std::uint64_t held = held_by_getters();
    if (left <= held) co_return true;
    stuck_ = co_await what_hinders(left - held, full_since);
    co_return !stuck_.empty();
}

coro<> nats_queue::watch_the_end(std::shared_ptr<nats_queue> self) {
    std::chrono::milliseconds pause{5};
    int in_vain = 0;
    std::optional<time_point> full_since;
    try {
        for (;;) {
            bool nothing = false;
            try {
                nothing = co_await self->nothing_comes(full_since);
                in_vain = 0;
            } catch (const std::bad_alloc&) {
                if (++in_vain == asks_without_memory) throw;
            } catch (const std::exception&) {
                if (!self->open_ || self->failure_) co_return;
            }
            if (nothing && self->ready_.empty()) {
                self->ready_.shutdown();
                co_return;
            }
            co_await sleep(pause);
            pause = std::min(pause * 2, std::chrono::milliseconds(250));
        }
    } catch (const std::bad_alloc&) {
        // Otherwise tasks would wait in get() for ever.
        self->fail("cannot be used: there is no memory left to ask whether it is empty");
    }
}

/// Items of tasks that wait in get(): they are not acknowledged before get() has ended.
std::uint64_t nats_queue::held_by_getters() const noexcept {
    std::uint64_t n = 0;
    for (const auto& [task, h] : holders_) {
        if (h.getting > 0) n += h.items.size();
    }
    return n;
}

void nats_queue::drop_ready() noexcept {
    while (!ready_.empty()) {
        const nats_item_ptr item = ready_.get_nowait();
        item->settled = true;
    }
}

}  // namespace aio::inline v0::detail
