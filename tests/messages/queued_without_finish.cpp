// error: an operation has a public `T finish()`, which gives what co_await gives
#include <aio/lowlevel.hpp>

struct turn : aio::lowlevel::queued<turn> {
    explicit turn(aio::lowlevel::wait_queue<turn>& q) : queued(q) {}
    bool start() noexcept { return park(); }
    void describe(std::string&) const override {}
};

turn make(aio::lowlevel::wait_queue<turn>& q) { return turn(q); }
