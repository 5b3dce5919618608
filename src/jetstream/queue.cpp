// What users see of a queue. nats_queue does the work: see queue_state.hpp.

#include "jetstream/queue_state.hpp"

#include <algorithm>
#include <stdexcept>

namespace aio::inline v0::detail {

queue_opener::queue_opener(
    std::shared_ptr<nats_client> client, std::string name, const jetstream::queue_options& options)
    : state_(std::make_shared<nats_queue>(std::move(client), std::move(name), options)) {}
queue_opener::queue_opener(queue_opener&&) noexcept = default;
queue_opener& queue_opener::operator=(queue_opener&&) noexcept = default;
queue_opener::~queue_opener() = default;

coro<std::shared_ptr<nats_queue>> queue_opener::open() {
    co_await state_->open();
    co_return state_;
}

coro<> queue_opener::close() { return state_->close(); }

namespace {

coro<> confirmed(std::shared_ptr<nats_queue> queue, std::string subject) {
    co_await queue->confirm(std::move(subject));
}

}  // namespace
}  // namespace aio::inline v0::detail

namespace aio::inline v0::jetstream {

acknowledgement::acknowledgement(std::shared_ptr<detail::nats_queue> queue, std::string subject) noexcept
    : queue_(std::move(queue)), subject_(std::move(subject)) {}
acknowledgement::acknowledgement(acknowledgement&&) noexcept = default;
acknowledgement& acknowledgement::operator=(acknowledgement&&) noexcept = default;
acknowledgement::~acknowledgement() = default;

detail::coro_awaiter<void> acknowledgement::operator co_await() && {
    return detail::confirmed(std::move(queue_), std::move(subject_)).operator co_await();
}

queue_base::queue_base(std::shared_ptr<detail::nats_queue> state) noexcept : state_(std::move(state)) {}
queue_base::~queue_base() = default;

acknowledgement queue_base::task_done() { return acknowledgement(state_, state_->task_done()); }
void queue_base::retry_later(delay d) { state_->retry_later(d); }
int queue_base::delivery() const { return state_->delivery(); }
std::string queue_base::id() const { return state_->id(); }
coro<> queue_base::join() { return state_->join(); }
coro<> queue_base::shutdown(bool immediate) { return state_->shutdown(immediate); }
coro<std::size_t> queue_base::size() { return state_->size(); }
std::size_t queue_base::maxsize() const noexcept { return state_->maxsize(); }
const std::string& queue_base::name() const noexcept { return state_->name(); }
queue_statistics queue_base::statistics() const noexcept { return state_->statistics(); }
coro<> queue_base::put_bytes(std::string data, std::string id, bool again) {
    const auto no_id = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 127; };
    if (std::any_of(id.begin(), id.end(), no_id)) {
        throw std::invalid_argument("jetstream::queue::put: the id has a space or a control character");
    }
    return state_->put(std::move(data), std::move(id), again);
}
coro<std::string> queue_base::get_bytes() { return state_->get(); }

coro<> connection::remove_queue(const std::string& name) {
    return detail::delete_stream(client_, detail::stream_name(name, "jetstream::remove_queue"));
}

}  // namespace aio::inline v0::jetstream
