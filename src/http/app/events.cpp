// Server-sent events. Somebody has to wait for the next event, for the time of a ping and for the end of the server at
// once. So each event is waited for in a task; the generator cancels it when it is closed, and a server that closes
// does.

#include <aio/http/events.hpp>

#include "http/access.hpp"
#include "http/body.hpp"

#include <aio/finally.hpp>
#include <aio/task.hpp>
#include <aio/wait.hpp>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

namespace aio::inline v0::http {

namespace {

void check_line(std::string_view text, const char* what) {
    if (text.find_first_of("\r\n") != text.npos)
        throw std::invalid_argument(std::string("http::event: ") + what + " has a line break in it");
}

// "\r\n", "\n" and "\r" each end a line.
void append_data(std::string& out, std::string_view data) {
    for (;;) {
        const std::size_t end = std::min(data.find_first_of("\r\n"), data.size());
        out.append("data: ").append(data.substr(0, end)).append("\n");
        if (end == data.size()) return;
        data.remove_prefix(data.substr(end).starts_with("\r\n") ? end + 2 : end + 1);
    }
}

std::string text_of(const event& e) {
    check_line(e.event, "the type");
    check_line(e.id, "the id");
    if (e.id.find('\0') != e.id.npos) throw std::invalid_argument("http::event: the id has a NUL in it");
    std::string out;
    if (!e.event.empty()) out.append("event: ").append(e.event).append("\n");
    if (!e.id.empty()) out.append("id: ").append(e.id).append("\n");
    if (e.retry) out.append("retry: ").append(std::to_string(std::max<long long>(e.retry->count(), 0))).append("\n");
    // Without data a browser drops the event's type, and keeps id and retry.
    if (!e.data.empty() || !e.event.empty() || out.empty()) append_data(out, e.data);
    return out + "\n";
}

struct event_source {
    event_source(async_generator<event> from, delay between_pings) : events(std::move(from)), ping(between_pings) {}
    async_generator<event> events;
    delay ping;
    task<std::string> next;  // empty once the events have ended
    bool closing = false;    // the server closes
};

coro<std::string> next_text(std::shared_ptr<event_source> source) {
    event* const e = co_await source->events.next();
    co_return e ? text_of(*e) : std::string();
}

coro<> stop(std::shared_ptr<event_source> source) {
    std::vector<task<std::string>> running;
    if (source->next != task<std::string>() && !source->next.done()) {
        source->next.cancel();
        running.push_back(source->next);
        co_await wait(std::move(running));
        if (!source->next.cancelled()) static_cast<void>(source->next.exception());  // nobody else asks for it
    }
    co_await source->events.aclose();
}

async_generator<std::string> texts_of(std::shared_ptr<event_source> source) {
    co_await defer(&stop, source);
    while (!source->closing) {
        source->next = create_task(next_text(source));
        for (;;) {
            std::vector<task<std::string>> one{source->next};
            co_await wait(std::move(one), {.timeout = source->ping});
            if (source->next.done()) break;
            std::string comment = ": ping\n\n";
            co_yield std::move(comment);
        }
        if (source->closing && source->next.cancelled()) break;
        std::string text = co_await source->next;
        if (text.empty()) break;
        co_yield std::move(text);
    }
}

}  // namespace

response events(async_generator<event> source, events_options options) {
    // X-Accel-Buffering: nginx passes the events on as they come.
    headers fields("Content-Type", "text/event-stream", "Cache-Control", "no-store", "X-Accel-Buffering", "no");
    auto events = std::make_shared<event_source>(std::move(source), options.ping);
    response r = response::stream(200, texts_of(events), std::move(fields));
    detail::http_access::special(r)->going_away = [events] {
        events->closing = true;
        if (events->next != task<std::string>()) events->next.cancel();
    };
    return r;
}

}  // namespace aio::inline v0::http
