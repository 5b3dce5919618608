// async_trace: the trace of an error as users see it. trace_records.hpp has what is kept of it.

#include <aio/async_trace.hpp>

#include "debug/carried_errors.hpp"
#include "debug/trace_records.hpp"
#include "task/frames.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace aio::inline v0 {

namespace tracing = detail::tracing;

async_trace::async_trace(std::exception_ptr error) : error_(std::move(error)) {
    tracing::way taken;
    if (tracing::traces* traces = tracing::existing()) {
        const tracing::locked lock(tracing::records_mutex());
        if (const tracing::record* r = traces->find(error_, lock)) {
            taken = r->taken;
            if (r->context) context_ = r->context->error;
        }
    }
    if (!context_) context_ = tracing::own_context(error_);
    const std::size_t kept = taken.frames.size();
    left_out_ = taken.length - kept;
    frames_.reserve(kept);
    detail::frame_reader shown;
    for (std::size_t i = kept; i-- > 0;) {  // from the outermost
        const std::source_location& place = taken.kept(i);
        if (place.line() == 0) {
            ++left_out_;
            continue;
        }
        frames_.push_back(shown(place));
    }
}

std::exception_ptr async_trace::context() const noexcept {
    if (tracing::traces* traces = context_ ? tracing::existing() : nullptr) {
        const tracing::locked lock(tracing::records_mutex());
        if (tracing::record* r = traces->find(error_, lock); r && r->context) r->context->unread = false;
    }
    return context_;
}

namespace {

constexpr std::size_t most_members = 15;  // as in Python's tracebacks of groups
constexpr int most_nested_groups = 10;

void write(std::string& out, const async_trace& trace, const std::string& margin, int groups);

void write_alone(std::string& out, const async_trace& trace, const std::string& margin, int groups) {
    const std::size_t count = trace.frames().size();
    if (count > 0) out += margin + "Traceback (most recent co_await last):\n";
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t innermost = std::min(count, tracing::first_frames);
        if (trace.left_out() > 0 && i == count - innermost) {
            out += margin + "    ... " + std::to_string(trace.left_out()) + " more frames ...\n";
        }
        const call_frame& frame = trace.frames()[i];
        out += margin + "    " + frame.file + ":" + std::to_string(frame.line) + " in " + frame.function + "\n";
    }
    const std::string what = detail::describe(trace.error());
    const auto* group = tracing::as<exception_group>(trace.error());
    const bool has_members = group && groups < most_nested_groups;
    out += margin;
    for (const char c : what) {
        if (c == '\n' && has_members) break;  // its members follow, each with its trace
        out += c;
        if (c == '\n') out += margin;
    }
    out += '\n';
    if (!has_members) return;
    const std::size_t members = group->exceptions().size();
    for (std::size_t i = 0; i < members; ++i) {
        if (i == most_members) {
            out += margin + "  ... and " + std::to_string(members - i) + " more\n";
            break;
        }
        out += margin + "  - " + std::to_string(i + 1) + " of " + std::to_string(members) + ":\n";
        write(out, async_trace(group->exceptions()[i]), margin + "    ", groups + 1);
    }
}

void write(std::string& out, const async_trace& trace, const std::string& margin, int groups) {
    std::vector<async_trace> chain{trace};
    while (chain.size() < tracing::most_contexts) {
        std::exception_ptr context = chain.back().context();
        if (!context) break;
        chain.emplace_back(std::move(context));
    }
    for (std::size_t i = chain.size(); i-- > 0;) {
        write_alone(out, chain[i], margin, groups);
        if (i > 0)
            out += margin + "\n" + margin + "During handling of the above error, another came:\n" + margin + "\n";
    }
}

}  // namespace

std::string async_trace::to_string() const {
    std::string text;
    write(text, *this, "", 0);
    return text;
}

}  // namespace aio::inline v0
