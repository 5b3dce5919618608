#pragma once
// A NATS client that is short of memory: see out_of_memory.hpp. The servers are in another process, so that only the
// client is.
#include "out_of_memory.hpp"

#include <aio/jetstream.hpp>

namespace aio_test {

/// Calls use(connection), with each allocation failing in its turn. If it was an allocation of the task that reads, or
/// writes, or of one that connects again, then the connection is lost, an answer is missing, or the connection is
/// closed: its users are told so in words.
template<class Use>
void client_survives(const std::string& url, aio::jetstream::connect_options options, std::size_t at_least, Use use) {
    auto scenario = [&]() -> aio::coro<> {
        try {
            co_await aio::with(aio::jetstream::connect(url, options), use);
        } catch (const aio::jetstream::error&) {
        } catch (const aio::timeout_error&) {
        } catch (const std::system_error&) {}
    };
    survives_without_memory(scenario, {.real_time = true, .at_least = at_least});
}

}  // namespace aio_test
