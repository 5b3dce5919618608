#pragma once
namespace aio::detail {

/// Once, at the first loop: sees to it that a child does not share it (rule 150).
void watch_forks();

}  // namespace aio::detail
