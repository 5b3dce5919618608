// http::retry. It calls a function of the user's, so it sees a response or an error, and not the request. Therefore the
// requests of its task tell it of their failures, through a context variable: fn may be a coroutine that makes a
// status_error of a response, or reads its body, and retry still knows what was asked.

#include "http/client/retry.hpp"

#include "http/app/date.hpp"
#include "http/client/transfer.hpp"

#include <aio/context_var.hpp>
#include <aio/errors.hpp>
#include <aio/http/retry.hpp>

#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>

namespace aio::inline v0::detail {

bool is_passing_status(int status) noexcept {
    for (const int known : {408, 425, 429, 500, 502, 503, 504}) {
        if (status == known) return true;
    }
    return false;
}

namespace {

using seconds = std::chrono::duration<double>;

// What the last request that has failed says of itself.
struct failed_request {
    bool any = false;
    bool idempotent = false;
    bool lost = false;    // the connection could not be made, or was lost
    bool unsent = false;  // nothing of the request has gone
    std::optional<seconds> retry_after;
};

using notes = std::shared_ptr<failed_request>;
context_var<notes>& current_notes() {
    static context_var<notes> variable("http::retry", nullptr);
    return variable;
}

// Gives what a Retry-After asks for. A date counts from that of the answer, whose clock may be another than ours.
std::optional<seconds> retry_after(const http::headers& h) {
    const std::string& text = h["Retry-After"];
    if (text.empty()) return std::nullopt;
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (end == text.data() + text.size() && error == std::errc()) return seconds(number);
    const std::optional<std::int64_t> then = parse_http_date(text);
    if (!then) return std::nullopt;
    const std::int64_t now = parse_http_date(h["Date"]).value_or(
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
    return seconds(std::max<std::int64_t>(0, *then - now));
}

// An error that fn has made by hand, or another library: a connection that could not be made, or was lost.
bool is_connection_error(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::system_error& e) {
        for (const int known : {ECONNREFUSED, ECONNRESET, ECONNABORTED, EPIPE, ETIMEDOUT, EHOSTUNREACH, EHOSTDOWN,
                 ENETUNREACH, ENETDOWN, ENETRESET}) {
            if (e.code() == std::error_code(known, std::generic_category()) ||
                e.code() == std::error_code(known, std::system_category())) {
                return true;
            }
        }
    } catch (...) { return false; }
    return false;
}

int status_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const http::status_error& e) { return e.status(); } catch (...) {
        return 0;
    }
}

bool is_cancel(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const cancelled_error&) { return true; } catch (const keyboard_interrupt&) {
        return true;
    } catch (...) { return false; }
}

}  // namespace

void note_failed_request(const curl_transfer& t) noexcept {
    try {
        const notes known = current_notes().get();
        if (!known) return;
        known->any = true;
        known->idempotent = is_idempotent(t.method);
        known->lost = t.was_lost;
        known->unsent = t.was_lost && !t.was_sent;
        known->retry_after = retry_after(t.answer);
    } catch (...) {  // no memory: then the request counts as one of which nothing is known
        return;
    }
}

struct http_retries::state {
    http::retry_policy policy;
    std::size_t attempts = 0;
    double next;  // seconds
    notes seen = std::make_shared<failed_request>();
    std::optional<context_var<notes>::token> token;
    std::minstd_rand random{std::random_device()()};

    explicit state(const http::retry_policy& p) : policy(p), next(0) {
        if (!(p.jitter >= 0 && p.jitter <= 1))
            throw std::invalid_argument("http::retry: the jitter is not from 0 to 1");
        if (!p.first.has_value() || !p.most.has_value())
            throw std::invalid_argument("http::retry: first or most is std::nullopt, which no wait is");
        next = seconds(p.first.value()).count();
        token.emplace(current_notes().set(seen));
    }

    bool may_repeat() const noexcept {
        return attempts < policy.attempts && (!seen->any || seen->idempotent || seen->unsent || policy.any_method);
    }
    delay wait(std::optional<seconds> asked) {
        const double most = seconds(policy.most.value()).count();
        const double longest = std::clamp(next, 0.0, most);
        next = longest * 2;
        const double random_part = std::uniform_real_distribution<double>(0, policy.jitter)(random);
        double length = longest * (1 - random_part);
        if (asked) length = std::min(std::max(length, asked->count()), most);
        return seconds(length);
    }
};

http_retries::http_retries(const http::retry_policy& policy) : state_(std::make_unique<state>(policy)) {}

http_retries::~http_retries() {
    try {
        current_notes().reset(*state_->token);
    } catch (...) {  // the coroutine is destroyed by somebody else than its task: the variable goes with that
        return;
    }
}

void http_retries::begin() noexcept {
    ++state_->attempts;
    *state_->seen = {};
}

delay http_retries::after(const http::response& r) {
    if (!is_passing_status(r.status()) || !state_->may_repeat()) return std::nullopt;
    return state_->wait(retry_after(r.headers()));
}

delay http_retries::after(const std::exception_ptr& error) {
    const failed_request& seen = *state_->seen;
    if (is_cancel(error) || !state_->may_repeat()) return std::nullopt;
    const int status = status_of(error);
    if (status != 0) return is_passing_status(status) ? state_->wait(seen.retry_after) : delay(std::nullopt);
    if (seen.any ? seen.lost : is_connection_error(error)) return state_->wait(std::nullopt);
    return std::nullopt;
}

}  // namespace aio::inline v0::detail
