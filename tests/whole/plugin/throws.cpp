// A plugin that throws an exception of a class of its own; it does not use aiocxx. async_trace_test loads it.
#include <stdexcept>

namespace {
class plugin_error : public std::runtime_error {
public:
    plugin_error() : std::runtime_error("from a plugin") {}
    ~plugin_error() override { ended = true; }

private:
    inline static volatile bool ended = false;
};
}  // namespace

extern "C" __attribute__((visibility("default"))) void test_plugin_throws() { throw plugin_error(); }
