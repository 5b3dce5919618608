#pragma once
// What a queue hears: the items that it has asked for, and what others say of the queue.

#include "jetstream/queue_state.hpp"

namespace aio::inline v0::detail {

class nats_queue::pull_sink final : public nats_sink {
public:
    pull_sink(nats_queue& q, std::size_t slot, std::string inbox)
        : nats_sink(std::move(inbox), ""), queue_(&q), slot_(slot) {}
    void deliver(const nats_incoming& m) override { queue_->delivered(slot_, m); }

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

}  // namespace aio::inline v0::detail
