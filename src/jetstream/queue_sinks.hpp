#pragma once
// What a queue hears: the items that it has asked for, and what others say of the queue.

#include "jetstream/queue_state.hpp"

namespace aio::inline v0::detail {

/// Hears what comes for a place in pulls_: the subject ends with *, in whose place each question has its number. On a
/// new connection it has another subject: the servers may still have the questions of the one before, and would answer
/// those, too, as long as somebody hears that.
class nats_queue::pull_sink final : public nats_sink {
public:
    pull_sink(nats_queue& q, std::size_t slot)
        : nats_sink(q.client_->new_inbox() + ".*", ""), queue_(&q), slot_(slot) {}
    void deliver(const nats_incoming& m) override { queue_->delivered(slot_, m); }
    void subscribing() override { subject = queue_->client_->new_inbox() + ".*"; }
    std::string subject_of(std::uint64_t question) const {
        return subject.substr(0, subject.size() - 1) + std::to_string(question);
    }

private:
    nats_queue* queue_;
    std::size_t slot_;
};

class nats_queue::news_sink final : public nats_sink {
public:
    news_sink(nats_queue& q, std::string news_subject) : nats_sink(std::move(news_subject), ""), queue_(&q) {}
    void deliver(const nats_incoming& m) override { queue_->news(m); }
    void reconnected() noexcept override { queue_->reconnected(); }
    void closed() noexcept override { queue_->client_closed(); }

private:
    nats_queue* queue_;
};

/// Hears when another server has begun to lead the queue's consumer.
class nats_queue::election_sink final : public nats_sink {
public:
    election_sink(nats_queue& q, const std::string& stream)
        : nats_sink("$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED." + stream + ".*", ""), queue_(&q) {}
    void deliver(const nats_incoming&) override { queue_->elected(); }

private:
    nats_queue* queue_;
};

/// Hears when another server has begun to lead the queue's stream.
class nats_queue::stream_election_sink final : public nats_sink {
public:
    stream_election_sink(nats_queue& q, const std::string& stream)
        : nats_sink("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + stream, ""), queue_(&q) {}
    void deliver(const nats_incoming&) override { queue_->numbers_may_be_doubled(); }

private:
    nats_queue* queue_;
};

}  // namespace aio::inline v0::detail
