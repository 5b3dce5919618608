// Routes form a tree of segments. A request is matched against the raw path, segment by segment, so that a slash that
// is encoded stays inside of its parameter; a segment is decoded only if there is something to decode. The tree is
// searched depth first, texts before parameters, and the search goes back where a branch has no handler of the method:
// the work is bounded by the number of nodes, and a route without parameters costs no allocation.
//
// A mounted router keeps a tree of its own, because the same router may stand below several prefixes, and may get
// routes after it was mounted. Once the search is inside of a mounted router it does not come back: its 404 is an
// answer.

#include <aio/http/router.hpp>

#include "http/access.hpp"
#include "http/app/pattern.hpp"
#include "http/app/route.hpp"
#include "http/target.hpp"

#include <algorithm>
#include <array>

namespace aio::inline v0::detail {

struct http_mount {
    std::vector<std::string> names;  // of the parameters in the prefix
    std::shared_ptr<http_router_state> router;
};

struct http_node {
    struct text_child {
        std::string text;
        std::unique_ptr<http_node> node;
    };
    struct method_route {
        std::string method;
        std::unique_ptr<http_route> route;
    };
    using routes = std::vector<method_route>;

    std::vector<text_child> texts;  // sorted
    std::unique_ptr<http_node> parameter;
    routes here;  // whose pattern ends here
    routes tail;  // whose pattern goes on with "{path...}"
    std::unique_ptr<http_mount> mounted;
};

struct http_router_state {
    http_node root;
    std::vector<std::unique_ptr<http_middleware>> middlewares;  // they stay where they are while requests run
};

struct http_chain {
    std::shared_ptr<http_router_state> state;
    std::vector<http_middleware*> middlewares;
    http_route* route = nullptr;
};

namespace {

/// A list that allocates nothing for its first N elements.
template<class T, std::size_t N>
class few {
public:
    void push(T value) {
        if (size_ < N) {
            first_[size_] = value;
        } else {
            more_.push_back(value);
        }
        ++size_;
    }
    void pop() noexcept {
        if (size_ > N) more_.pop_back();
        --size_;
    }
    std::size_t size() const noexcept { return size_; }
    const T& operator[](std::size_t i) const noexcept { return i < N ? first_[i] : more_[i - N]; }

private:
    std::array<T, N> first_{};
    std::vector<T> more_;
    std::size_t size_ = 0;
};

struct http_match {
    http_route* route = nullptr;
    few<std::string_view, 8> values;    // raw
    few<const http_mount*, 4> mounted;  // through which the search has gone, the outermost first
};

auto place_of(const std::vector<http_node::text_child>& texts, std::string_view text) noexcept {
    return std::lower_bound(texts.begin(), texts.end(), text,
        [](const http_node::text_child& child, std::string_view wanted) { return child.text < wanted; });
}

http_node* text_child(const http_node& node, std::string_view text) noexcept {
    const auto at = place_of(node.texts, text);
    return at != node.texts.end() && at->text == text ? at->node.get() : nullptr;
}

http_node* text_child_of_raw(const http_node& node, std::string_view segment) {
    if (node.texts.empty()) return nullptr;
    if (segment.find('%') == segment.npos) return text_child(node, segment);
    std::string decoded;
    percent_decode(segment, false, decoded);
    return text_child(node, decoded);
}

http_route* of_method(const http_node::routes& routes, std::string_view method) noexcept {
    http_route* of_get = nullptr;
    http_route* of_any = nullptr;
    for (const http_node::method_route& r : routes) {
        if (r.method == method) return r.route.get();
        if (r.method == "GET" && method == "HEAD") of_get = r.route.get();
        if (r.method == "*") of_any = r.route.get();
    }
    return of_get ? of_get : of_any;
}

enum class found : std::uint8_t { nothing, route, nothing_in_a_mounted_router };

found search(const http_node& node, std::string_view rest, std::string_view method, http_match& m);

// rest begins with a slash.
found search_children(const http_node& node, std::string_view rest, std::string_view method, http_match& m) {
    const first_segment path(rest);
    if (const http_node* child = text_child_of_raw(node, path.text)) {
        const found what = search(*child, path.rest, method, m);
        if (what != found::nothing) return what;
    }
    if (node.parameter && !path.text.empty()) {
        m.values.push(path.text);
        const found what = search(*node.parameter, path.rest, method, m);
        if (what != found::nothing) return what;
        m.values.pop();
    }
    return found::nothing;
}

found search(const http_node& node, std::string_view rest, std::string_view method, http_match& m) {
    if (rest.empty()) {
        m.route = of_method(node.here, method);
        if (m.route) return found::route;
    } else {
        const found what = search_children(node, rest, method, m);
        if (what != found::nothing) return what;
    }
    if (node.mounted) {
        m.mounted.push(node.mounted.get());
        const found what = search(node.mounted->router->root, rest, method, m);
        return what == found::nothing ? found::nothing_in_a_mounted_router : what;
    }
    if (rest.empty()) return found::nothing;
    m.route = of_method(node.tail, method);
    if (!m.route) return found::nothing;
    m.values.push(rest.substr(1));
    return found::route;
}

using methods = std::vector<std::string_view>;

void add_method(methods& all, std::string_view method) {
    if (std::find(all.begin(), all.end(), method) == all.end()) all.push_back(method);
}

void add_methods(methods& all, const http_node::routes& routes) {
    for (const http_node::method_route& r : routes) {
        if (r.method == "*") continue;
        add_method(all, r.method);
        if (r.method == "GET") add_method(all, "HEAD");
    }
}

/// Adds the methods of all routes that fit a path.
void add_allowed(methods& all, const http_node& node, std::string_view rest) {
    if (rest.empty()) {
        add_methods(all, node.here);
    } else {
        add_methods(all, node.tail);
        const first_segment path(rest);
        if (const http_node* child = text_child_of_raw(node, path.text)) add_allowed(all, *child, path.rest);
        if (node.parameter && !path.text.empty()) add_allowed(all, *node.parameter, path.rest);
    }
    if (node.mounted) add_allowed(all, node.mounted->router->root, rest);
}

/// Adds the methods of all routes.
void add_all(methods& all, const http_node& node) {
    add_methods(all, node.here);
    add_methods(all, node.tail);
    for (const http_node::text_child& child : node.texts) add_all(all, *child.node);
    if (node.parameter) add_all(all, *node.parameter);
    if (node.mounted) add_all(all, node.mounted->router->root);
}

std::string allow_list(methods all) {
    if (all.empty()) return {};
    add_method(all, "OPTIONS");
    std::string list;
    for (const std::string_view method : all) list.append(list.empty() ? "" : ", ").append(method);
    return list;
}

http_match match(const http_router_state& state, const http::request& request) {
    http_match m;
    const std::string_view path = raw_path(request.method(), request.target());
    if (path.starts_with('/')) search(state.root, path, request.method(), m);
    return m;
}

// The names stand in the routers, which the request keeps alive by its route.
void give_params(const http_match& m, http::request& request) {
    auto& params = http_access::params(request);
    params.clear();
    if (m.values.size() == 0) return;
    params.reserve(m.values.size());
    const auto add = [&](const std::vector<std::string>& names) {
        for (const std::string& name : names) {
            std::string value;
            percent_decode(m.values[params.size()], false, value);
            params.emplace_back(name, std::move(value));
        }
    };
    for (std::size_t i = 0; i < m.mounted.size(); ++i) add(m.mounted[i]->names);
    if (m.route) add(m.route->names);
}

http::response text_response(int status) {
    return http::response(
        status, std::string(http::reason(status)) + "\n", http::headers("Content-Type", "text/plain"));
}

http::response answer_without_route(const http_router_state& state, const http::request& request) {
    const std::string_view path = raw_path(request.method(), request.target());
    methods all;
    if (path == "*") {
        add_all(all, state.root);
    } else if (path.starts_with('/')) {
        add_allowed(all, state.root, path);
    }
    const std::string allow = allow_list(std::move(all));
    if (allow.empty()) return text_response(404);
    http::response r = request.method() == "OPTIONS" ? http::response(204) : text_response(405);
    r.headers().set("Allow", allow);
    return r;
}

coro<http::response> give(http::response r) { co_return r; }

AIO_DETAIL_WRAPPER coro<http::response> call_route(
    const http_router_state& state, http_route* route, http::request request) {
    if (route) return route->handler.call(std::move(request));
    return give(answer_without_route(state, request));
}

/// The handler, as the innermost middleware sees it: a refusal is its response.
coro<http::response> call_in_chain(std::shared_ptr<http_chain> chain, http::request request) {
    try {
        co_return co_await call_route(*chain->state, chain->route, std::move(request));
    } catch (const http::refusal& refusal) { co_return http_response_of(refusal); }
}

AIO_DETAIL_WRAPPER coro<http::response> dispatch(
    const std::shared_ptr<http_router_state>& state, http::request request) {
    const http_match m = match(*state, request);
    give_params(m, request);
    http_access::route(request) = std::shared_ptr<const http_route>(state, m.route);
    std::size_t middlewares = state->middlewares.size();
    for (std::size_t i = 0; i < m.mounted.size(); ++i) middlewares += m.mounted[i]->router->middlewares.size();
    if (middlewares == 0) return call_route(*state, m.route, std::move(request));

    auto chain = std::make_shared<http_chain>();
    chain->state = state;
    chain->route = m.route;
    chain->middlewares.reserve(middlewares);
    const auto add = [&](const http_router_state& of) {
        for (const auto& middleware : of.middlewares) chain->middlewares.push_back(middleware.get());
    };
    add(*state);
    for (std::size_t i = 0; i < m.mounted.size(); ++i) add(*m.mounted[i]->router);
    return http::next(std::move(chain), 0)(std::move(request));
}

bool is_unbuffered(const http_router_state& state, const http::request& request) {
    const http_match m = match(state, request);
    return m.route && m.route->handler.unbuffered && m.route->handler.unbuffered(request);
}

http_node& node_of(http_node& root, const http_pattern& pattern) {
    http_node* node = &root;
    for (const http_pattern::segment& s : pattern.segments) {
        if (s.is_parameter) {
            if (!node->parameter) node->parameter = std::make_unique<http_node>();
            node = node->parameter.get();
            continue;
        }
        http_node* child = text_child(*node, s.text);
        if (!child) {
            const auto at = place_of(node->texts, s.text);
            child = node->texts.insert(at, {s.text, std::make_unique<http_node>()})->node.get();
        }
        node = child;
    }
    return *node;
}

bool reaches(const http_node& node, const http_router_state& wanted) noexcept {
    if (node.mounted && (node.mounted->router.get() == &wanted || reaches(node.mounted->router->root, wanted)))
        return true;
    if (node.parameter && reaches(*node.parameter, wanted)) return true;
    return std::any_of(node.texts.begin(), node.texts.end(),
        [&](const http_node::text_child& child) { return reaches(*child.node, wanted); });
}

}  // namespace

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

coro<response> next::operator()(http::request request) const {
    if (at_ == chain_->middlewares.size()) return detail::call_in_chain(chain_, std::move(request));
    return (*chain_->middlewares[at_])(std::move(request), next(chain_, at_ + 1));
}

router::router() : state_(std::make_shared<detail::http_router_state>()) {}

void router::add(std::string method, std::string pattern, detail::http_handler handler) {
    if (method != "*" && !detail::is_http_token(method))
        throw std::invalid_argument("http::router: \"" + method + "\" is no method");
    detail::http_pattern parts(pattern);
    detail::http_node& node = detail::node_of(state_->root, parts);
    auto& routes = parts.has_tail ? node.tail : node.here;
    for (const auto& there : routes) {
        if (there.method != method) continue;
        throw std::invalid_argument(
            "http::router: " + method + " \"" + pattern + "\" is there already, as \"" + there.route->pattern + "\"");
    }
    auto route = std::make_unique<detail::http_route>();
    route->pattern = std::move(pattern);
    route->names = std::move(parts.names);
    route->handler = std::move(handler);
    routes.push_back({std::move(method), std::move(route)});
}

void router::add_middleware(detail::http_middleware middleware) {
    state_->middlewares.push_back(std::make_unique<detail::http_middleware>(std::move(middleware)));
}

router& router::mount(const std::string& prefix, const router& other) {
    detail::http_pattern parts(prefix);
    if (prefix.empty() || prefix.ends_with('/') || parts.has_tail) {
        throw std::invalid_argument("http::router: \"" + prefix +
            "\" is no prefix for a router, which is \"/name\" without a slash at its end");
    }
    if (other.state_ == state_ || detail::reaches(other.state_->root, *state_))
        throw std::invalid_argument("http::router: a router cannot be mounted inside of itself");
    detail::http_node& node = detail::node_of(state_->root, parts);
    if (node.mounted) throw std::invalid_argument("http::router: \"" + prefix + "\" has a mounted router already");
    auto mounted = std::make_unique<detail::http_mount>();
    mounted->names = std::move(parts.names);
    mounted->router = other.state_;
    node.mounted = std::move(mounted);
    return *this;
}

coro<response> router::operator()(http::request request) const { return detail::dispatch(state_, std::move(request)); }

detail::http_handler router::to_http_handler() const {
    auto state = state_;
    auto call = [state](http::request request) { return detail::dispatch(state, std::move(request)); };
    auto unbuffered = [state](const http::request& request) { return detail::is_unbuffered(*state, request); };
    return detail::http_handler{std::move(call), std::move(unbuffered)};
}

}  // namespace aio::inline v0::http
