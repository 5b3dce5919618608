#pragma once
// What a request tells the retry() that it runs under: whether it may be repeated.

#include <aio/http/message.hpp>

namespace aio::inline v0::detail {

struct curl_transfer;

/// Called in the task that has awaited the request, when the request has failed or its status is one of those below.
void note_failed_request(const curl_transfer& t) noexcept;
/// 408, 425, 429, 500, 502, 503, 504.
bool is_passing_status(int status) noexcept;

}  // namespace aio::inline v0::detail
