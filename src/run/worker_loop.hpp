#pragma once
// The loop of a thread of workers: run() asks for it by a hook, since workers stand in a layer below.

namespace aio::inline v0::detail {

struct loop_settings;
struct loop_main;

/// See loop_hooks::run_loop.
void run_loop(const loop_settings& settings, loop_main& main);

}  // namespace aio::inline v0::detail
