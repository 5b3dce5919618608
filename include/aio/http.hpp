#pragma once
// HTTP: the client (http::session) and the server (http::serve, http::start_server). JSON is in <aio/http_json.hpp>.
//
//     aio::http::session s;
//     aio::http::response r = co_await s.get("https://example.org/", {.timeout = 5s});

#include <aio/detail/base/platform.hpp>

#include <aio/http/access_log.hpp>
#include <aio/http/authorization.hpp>
#include <aio/http/client.hpp>
#include <aio/http/compress.hpp>
#include <aio/http/cookies.hpp>
#include <aio/http/events.hpp>
#include <aio/http/field_list.hpp>
#include <aio/http/files.hpp>
#include <aio/http/forms.hpp>
#include <aio/http/headers.hpp>
#include <aio/http/message.hpp>
#include <aio/http/params.hpp>
#include <aio/http/retry.hpp>
#include <aio/http/router.hpp>
#include <aio/http/server.hpp>
#include <aio/http/streamed_response.hpp>
#include <aio/http/test_client.hpp>
#include <aio/http/values.hpp>
#include <aio/http/websocket.hpp>
