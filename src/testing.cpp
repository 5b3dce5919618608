#include "loop/loop.hpp"

#include <aio/testing.hpp>

namespace aio::testing {

void set_step_hook(detail::function<void()> fn) { detail::require_loop().cold().step_hook = std::move(fn); }

}  // namespace aio::testing
