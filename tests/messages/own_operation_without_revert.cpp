// error: a revertible operation has a public `void unpark() noexcept`
#include <aio/lowlevel.hpp>

struct tick : aio::lowlevel::revertible<tick> {
    bool start() noexcept { return true; }
    void unpark() noexcept {}
    void finish() {}
    void describe(std::string&) const override {}
};

tick make() { return tick(); }
