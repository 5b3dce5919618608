// http::upgrade_websocket: the answer to the handshake, and what the engine calls after it.

#include "http/access.hpp"
#include "http/body.hpp"
#include "http/websocket/handshake.hpp"
#include "http/websocket/state.hpp"

#include <aio/event_loop.hpp>
#include <aio/task.hpp>

namespace aio::inline v0::detail {

namespace {

/// What was agreed in the handshake. The engine's two functions share it.
struct websocket_plan {
    websocket_settings settings;
    function<coro<>(http::websocket)> handler;
    std::string subprotocol;
    std::string what;  // "GET /path"
    std::weak_ptr<websocket_state> running;
    bool going_away = false;

    websocket_plan(const http::websocket_options& o, function<coro<>(http::websocket)> h)
        : settings(true, o), handler(std::move(h)) {}

    void go_away() noexcept {
        going_away = true;
        if (const std::shared_ptr<websocket_state> ws = running.lock()) ws->send_close(1001, "the server is closing");
    }
};

// Reports an exception of the handler, unless it says that this WebSocket is closed.
void tell_of_error(const websocket_plan& plan, const websocket_state& ws, const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const http::websocket_closed&) {
        if (ws.closing()) return;  // otherwise another WebSocket was meant
    } catch (...) {                // it is told below
    }
    get_running_loop().call_exception_handler(
        {"exception in the WebSocket handler of " + plan.what, error, current_task()});
}

coro<> serve_websocket(std::shared_ptr<websocket_plan> plan, stream connection) {
    const auto ws = std::make_shared<websocket_state>(std::move(connection), plan->settings, plan->subprotocol);
    plan->running = ws;
    ws->start_keep_alive();
    if (plan->going_away) plan->go_away();
    std::exception_ptr error;
    try {
        co_await plan->handler(http::websocket(ws));
    } catch (const cancelled_error&) {
        ws->send_close(1001, {});
        throw;
    } catch (...) { error = std::current_exception(); }
    if (error) tell_of_error(*plan, *ws, error);
    plan->handler = nullptr;  // what it has captured goes before the wait for the peer
    co_await close_websocket(ws, error ? 1011 : 1000, {});
}

}  // namespace

http::response websocket_response(
    const http::request& request, function<coro<>(http::websocket)> handler, const http::websocket_options& options) {
    websocket_terms terms;
    terms.subprotocols = options.subprotocols.get();
    terms.origins = options.origins.get();
    check_subprotocols(terms.subprotocols, "http::upgrade_websocket");
    auto plan = std::make_shared<websocket_plan>(options, std::move(handler));
    plan->what = request.method() + " " + request.target();
    http::response answer = answer_handshake(request, terms, plan->subprotocol);
    if (options.headers.get()) {
        for (const auto& [name, value] : *options.headers.get()) answer.headers().add(name, value);
    }
    if (answer.status() != 101) return answer;
    auto special = std::make_shared<http_special_body>();
    special->upgrade = [plan](stream connection) { return serve_websocket(plan, std::move(connection)); };
    special->going_away = [plan] { plan->go_away(); };
    http_access::special(answer) = std::move(special);
    return answer;
}

}  // namespace aio::inline v0::detail
