#pragma once
// A subscription with a consumer: messages wait in it until a generator gives them.

#include "jetstream/client.hpp"

#include <aio/async_generator.hpp>

#include <deque>

namespace aio::inline v0::detail {

class nats_subscription final : public nats_sink {
public:
    nats_subscription(std::shared_ptr<nats_client> client, std::string subject_, std::string group_, std::size_t most,
        std::size_t most_bytes)
        : nats_sink(std::move(subject_), std::move(group_)),
          client_(std::move(client)),
          most_(most),
          most_bytes_(most_bytes) {
        client_->add(*this);
    }
    nats_subscription(const nats_subscription&) = delete;
    nats_subscription& operator=(const nats_subscription&) = delete;
    ~nats_subscription() override { client_->remove(*this); }

    void deliver(const nats_incoming& m) override;
    void refused(const std::string& why) noexcept override;
    void closed() noexcept override;

    /// Waits until take() gives something, or the end.
    event_wait some() noexcept { return there_.wait(); }
    bool empty() const noexcept { return waiting_.empty(); }
    /// There must be one.
    jetstream::message take();
    /// True at the end; throws if the server has refused the subscription.
    bool ended() const;

private:
    struct entry {
        jetstream::message message;
        std::size_t size;  // of it all, its headers included
    };
    std::shared_ptr<nats_client> client_;
    std::size_t most_, most_bytes_;
    std::deque<entry> waiting_;
    std::size_t bytes_ = 0;
    std::uint64_t missed_ = 0;
    event there_;
    bool ended_ = false;
    std::string refusal_;
};

async_generator<jetstream::message> messages_of(std::unique_ptr<nats_subscription> s);

}  // namespace aio::inline v0::detail
