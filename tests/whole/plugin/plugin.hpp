#pragma once
// The functions of the plugin that plugin_test calls.

#include <aio/coro.hpp>

#include <optional>

extern "C" {
using plugin_makes_coro = void(std::optional<aio::coro<int>>& out);  // plugin_answer, plugin_fails, plugin_times_out
using plugin_gives_int = int();                                      // plugin_runs_a_loop
using plugin_gives_bool = bool();                                    // plugin_cancels_before_the_start
}
