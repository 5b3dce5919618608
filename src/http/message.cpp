// http::request and http::response, as the client and the server make them and as a test may make them by hand; the
// phrases of the statuses come from Boost.Beast. A request decodes its path when it is made, and a value
// of its query at each call of query().

#include <aio/http/message.hpp>

#include "http/access.hpp"
#include "http/body.hpp"
#include "http/target.hpp"

#include <ostream>  // Boost 1.74 forgets it

#include <boost/beast/http/status.hpp>

namespace aio::inline v0::detail {

http::response http_response_of(const http::refusal& refusal) {
    http::headers fields = refusal.headers();
    if (!fields.contains("Content-Type")) fields.add("Content-Type", "text/plain; charset=utf-8");
    std::string text = refusal.what();
    if (!text.ends_with('\n')) text += '\n';
    return http::response(refusal.status(), std::move(text), std::move(fields));
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

namespace {

// No client sends a fragment, but the target of a request made by hand may have one.
std::string_view without_fragment(std::string_view target) noexcept { return target.substr(0, target.find('#')); }

async_generator<std::string> pieces_of(std::shared_ptr<detail::http_body_source> source, std::string text) {
    if (!text.empty()) co_yield std::move(text);
    while (source) {
        std::string piece = co_await source->next();
        if (piece.empty()) break;
        co_yield std::move(piece);
    }
}

/// Goes through a query, pair by pair. The request has to outlive it.
class query_reader {
public:
    explicit query_reader(const request& r) {
        const auto parts = detail::parse_target(r.method(), without_fragment(r.target()));
        if (parts && parts->query) rest_ = *parts->query;
    }
    bool next() {
        rest_.remove_prefix(std::min(rest_.find_first_not_of('&'), rest_.size()));
        if (rest_.empty()) return false;
        const std::string_view pair = rest_.substr(0, rest_.find('&'));
        rest_.remove_prefix(pair.size());
        const std::size_t equals = std::min(pair.find('='), pair.size());
        detail::percent_decode(pair.substr(0, equals), true, name);
        value_ = pair.substr(std::min(equals + 1, pair.size()));
        return true;
    }
    std::string value() const {
        std::string decoded;
        detail::percent_decode(value_, true, decoded);
        return decoded;
    }
    std::string name;

private:
    std::string_view rest_, value_;
};

}  // namespace

status_error::status_error(int status, std::string url)
    : error(url + ": the server answered " + std::to_string(status) + " " + std::string(reason(status))),
      status_(status),
      url_(std::move(url)) {}

refusal::refusal(int status, std::string text, http::headers fields)
    : error(text.empty() ? std::string(reason(status)) : std::move(text)),
      status_(status),
      headers_(std::move(fields)) {
    if (status < 400 || status > 599)
        throw std::invalid_argument("http::refusal: " + std::to_string(status) + " is no status of an error");
}

std::string_view reason(int status) noexcept {
    namespace beast = boost::beast::http;
    const beast::status known = beast::int_to_status(status > 0 ? static_cast<unsigned>(status) : 0);
    // Beast has a phrase also for 599, which is no registered status.
    if (known == beast::status::unknown || known == beast::status::network_connect_timeout_error) return "Unknown";
    const auto phrase = beast::obsolete_reason(known);
    return {phrase.data(), phrase.size()};
}

std::string_view name(version v) noexcept {
    switch (v) {
        case version::v1_0: return "HTTP/1.0";
        case version::v1_1: return "HTTP/1.1";
        case version::v2: break;
    }
    return "HTTP/2";
}

response::response(int status, std::string body, http::headers fields)
    : status_(status), body_(std::move(body)), headers_(std::move(fields)) {
    if (status < 200 || status > 599) {
        throw std::invalid_argument("http::response: " + std::to_string(status) + " is no status of a final response");
    }
}

response response::stream(int status, async_generator<std::string> body, http::headers fields,
    std::shared_ptr<const http::headers> trailers) {
    response r(status, {}, std::move(fields));
    r.special_ = std::make_shared<detail::http_special_body>();
    r.special_->pieces.emplace(std::move(body));
    r.special_->trailers = std::move(trailers);
    return r;
}

void response::raise_for_status() const {
    if (status_ >= 400) throw status_error(status_, url_);
}

request::request(std::string method, std::string target, http::headers fields, std::string body, std::string peer)
    : method_(std::move(method)),
      target_(std::move(target)),
      headers_(std::move(fields)),
      body_(std::move(body)),
      peer_(std::move(peer)) {
    const std::optional<detail::http_target> parts = detail::parse_target(method_, without_fragment(target_));
    if (!parts) throw std::invalid_argument("http::request: \"" + target_ + "\" is no target of " + method_);
    detail::percent_decode(parts->path, false, path_);
}

async_generator<std::string> request::stream() { return pieces_of(source_, std::exchange(body_, {})); }

const headers& request::trailers() const noexcept { return source_ ? source_->trailers : trailers_; }

std::optional<std::string> request::query(std::string_view name) const {
    query_reader reader(*this);
    while (reader.next()) {
        if (reader.name == name) return reader.value();
    }
    return std::nullopt;
}

values request::query() const {
    values all;
    for (query_reader reader(*this); reader.next();) all.add(reader.name, reader.value());
    return all;
}

}  // namespace aio::inline v0::http
