// error: an operation has a public `bool start() noexcept`
#include <aio/lowlevel.hpp>

struct tick : aio::lowlevel::revertible<tick> {
    void start() {}
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() {}
    void describe(std::string&) const override {}
};

tick make() { return tick(); }
