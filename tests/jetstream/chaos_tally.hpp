#pragma once
// What the journals of chaos_workers.hpp say at the end: whether each item was worked on, how often, and what was
// known.
#include "chaos_workers.hpp"

#include <algorithm>
#include <cstdio>
#include <map>

namespace chaos {

/// A time in which a server was away, or had just come back.
struct outage {
    std::int64_t from, to;
};

/// Since when a server leads the stream.
struct leader {
    std::int64_t since;
    std::string name;
};

struct tally {
    std::size_t items = 0;
    std::size_t known_stored = 0;  // that their producers know to be stored
    std::size_t done = 0;          // that were worked on at least once
    std::size_t foreign = 0;       // that nobody has put
    std::size_t repeated = 0;      // times that an item was worked on once more
    std::size_t marked = 0;        // of those, the ones whose delivery() was above 1
    std::size_t forgotten = 0;     // unmarked, and a server was away between: docs/guide/machines.md
    std::size_t unexplained = 0;   // unmarked, and all servers were there
    std::int64_t stored = 0;       // messages that the stream has ever had
    std::size_t resets = 0;        // times that a server has thrown its copy away, and taken another one's: its fault,
                                   // and no harm if nothing is lost
    std::size_t refused = 0;       // messages that a server has refused
    bool copies_differ = false;    // the servers do not agree on what the stream has ever had
    std::int64_t dead = 0;
    std::int64_t kept = 0;  // items that the stream has at the end, given or not: docs/guide/machines.md, "Limits"
    std::size_t failed_workers = 0;

    /// Second messages for an item whose put was in doubt. Consumers drop them, or get them marked.
    std::int64_t doubled() const { return stored - static_cast<std::int64_t>(items); }
    bool holds() const {
        return known_stored == items && done == items && foreign == 0 && unexplained == 0 && doubled() >= 0 &&
            !copies_differ && refused == 0 && kept == 0 && dead == 0 && failed_workers == 0;
    }
};

struct delivery {
    std::int64_t came = 0;
    int number = 0;
};

/// What consumers have written of each item, the earliest first. "g": got; "d": worked on.
inline std::map<std::string, std::vector<delivery>> deliveries_in(
    const std::vector<std::string>& journals, const std::string& kind) {
    std::map<std::string, std::vector<delivery>> all;
    for (const std::string& path : journals) {
        std::ifstream in(path);
        std::string line;
        while (std::getline(in, line)) {
            std::istringstream words(line);
            std::string what, item;
            delivery d;
            words >> what >> item >> d.number >> d.came;
            if (what == kind) all[item].push_back(d);
        }
    }
    for (auto& [item, list] : all) {
        std::sort(list.begin(), list.end(), [](const delivery& a, const delivery& b) { return a.came < b.came; });
    }
    return all;
}

/// When an item was acknowledged, and who led then.
inline std::string acknowledged(
    const std::map<int, std::int64_t>& stored, int number, const std::vector<leader>& leaders) {
    const auto found = stored.find(number);
    if (found == stored.end() || leaders.empty()) return "not acknowledged";
    std::string who = "nobody known";
    for (const leader& l : leaders) {
        if (l.since <= found->second) who = l.name;
    }
    return "acknowledged " + std::to_string((found->second - leaders.front().since) / 1'000'000) +
        " ms after the first leader was seen; leader then: " + who;
}

/// Fills in what the journals know. producers: the journal of each, which puts per_producer items.
inline void read_journals(tally& t, const std::vector<std::string>& producers, int per_producer,
    const std::vector<std::string>& consumers, const std::vector<outage>& outages, const std::vector<leader>& leaders) {
    auto worked_on = deliveries_in(consumers, "d");
    for (std::size_t p = 0; p < producers.size(); ++p) {
        t.items += static_cast<std::size_t>(per_producer);
        const std::map<int, std::int64_t> stored = numbers_in(producers[p], "s");
        t.known_stored += stored.size();
        for (int i = 0; i < per_producer; ++i) {
            const auto found = worked_on.find(std::to_string(p) + ":" + std::to_string(i));
            if (found == worked_on.end()) {
                std::printf("  lost: item %zu:%d, %s\n", p, i, acknowledged(stored, i, leaders).c_str());
                continue;
            }
            ++t.done;
            const std::vector<delivery>& list = found->second;
            // The first delivery has no mark. It may have been held up on its way, and come behind a later one.
            const auto unmarked = [](const delivery& d) { return d.number <= 1; };
            const auto first = std::find_if(list.begin(), list.end(), unmarked);
            t.repeated += list.size() - 1;
            t.marked += list.size() - 1;
            for (auto d = first; d != list.end(); ++d) {
                if (d == first || !unmarked(*d)) continue;
                --t.marked;
                const auto between = [&](const outage& o) { return o.from <= d->came && o.to >= list[0].came; };
                if (std::any_of(outages.begin(), outages.end(), between)) {
                    ++t.forgotten;
                } else {
                    ++t.unexplained;
                    std::printf("  unmarked: item %zu:%d, %.1f s after the first time\n", p, i,
                        static_cast<double>(d->came - list[0].came) / 1e9);
                }
            }
            worked_on.erase(found);
        }
    }
    t.foreign = worked_on.size();
}

inline void print(const tally& t) {
    std::printf("  %-58s %8zu of %zu\n", "items that are known to be stored", t.known_stored, t.items);
    std::printf("  %-58s %8zu of %zu\n", "items that were worked on", t.done, t.items);
    std::printf("  %-58s %8zu\n", "items that nobody has put", t.foreign);
    std::printf(
        "  %-58s %8lld\n", "second messages for an item whose put was in doubt", static_cast<long long>(t.doubled()));
    std::printf("  %-58s %8zu\n", "messages that servers have refused", t.refused);
    std::printf("  %-58s %8zu\n", "times that servers have thrown their copy away", t.resets);
    std::printf("  %-58s %8s\n", "the servers' copies of the stream are the same", t.copies_differ ? "no" : "yes");
    std::printf("  %-58s %8zu\n", "worked on once more", t.repeated);
    std::printf("  %-58s %8zu\n", "  of these, marked as delivered again", t.marked);
    std::printf("  %-58s %8zu\n", "  unmarked, while a server was away: it was forgotten", t.forgotten);
    std::printf("  %-58s %8zu\n", "  unmarked, while all servers were there", t.unexplained);
    std::printf("  %-58s %8lld\n", "dead letters", static_cast<long long>(t.dead));
    std::printf("  %-58s %8lld\n", "left in the stream", static_cast<long long>(t.kept));
    std::printf("  %-58s %8zu\n", "workers that ended with an error", t.failed_workers);
}

}  // namespace chaos
