// The threads for calls that block on the network.

#include "sql/postgres/errand.hpp"

namespace aio::inline v0::sql {
namespace {

detail::blocking_pool& network_pool() {
    static auto* pool = new detail::blocking_pool(8, "aio-sql");
    return *pool;
}

}  // namespace

errand::errand(errand_owner& owner, detail::loop_core& loop, detail::function<void()> fn)
    : owner_(&owner), loop_(&loop), loop_mail_(detail::mailbox_of(loop)), fn_(std::move(fn)) {
    home = loop_mail_;
    run = [](detail::blocking_job& job) noexcept { static_cast<errand&>(job).fn_(); };
    deliver = [](detail::mailbox_node& node) noexcept {
        const std::shared_ptr<errand> self = std::move(static_cast<errand&>(node).self_);
        --self->loop_->outstanding;
        if (self->owner_) self->owner_->errand_done();
    };
    orphaned = [](detail::blocking_job& job) noexcept { static_cast<errand&>(job).self_.reset(); };
}

std::shared_ptr<errand> errand::start(errand_owner& owner, detail::function<void()> fn) {
    detail::loop_core& loop = detail::require_loop();
    std::shared_ptr<errand> e(new errand(owner, loop, std::move(fn)));
    e->self_ = e;
    try {
        network_pool().submit(*e);
    } catch (...) {
        e->self_.reset();
        throw;
    }
    ++loop.outstanding;
    return e;
}

void errand::abandon() noexcept {
    owner_ = nullptr;
    const bool loop_lives = !loop_mail_->closed();  // once it is closed, the loop may be gone
    switch (network_pool().give_up(*this)) {
        case detail::blocking_pool::given_up::withdrawn: self_.reset(); break;
        case detail::blocking_pool::given_up::running: break;
        case detail::blocking_pool::given_up::finished: return;  // the mailbox delivers it, if there is a loop
    }
    if (loop_lives) --loop_->outstanding;
}

}  // namespace aio::inline v0::sql
