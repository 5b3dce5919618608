// Loads CSV files into PostgreSQL: reads, parses on threads, and copies, all at the same time, with a limit of rows a
// second.
//
//     etl URL TABLE [--rate ROWS_PER_SECOND] FILE...
//
// It needs aio::sql. The table is made, of text columns that are called as the first line of the first file says. A
// file with a line that cannot be parsed ends the program with status 1, and nothing is loaded.

#include <aio/aio.hpp>
#include <aio/sql.hpp>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
namespace sql = aio::sql;

namespace {

using fields = std::vector<std::string>;

/// One line of CSV, with quotes around fields and doubled quotes inside them.
fields parse_line(const std::string& line) {
    fields found(1);
    bool quoted = false;
    for (std::size_t at = 0; at < line.size(); ++at) {
        const char c = line[at];
        if (c == '"' && quoted && at + 1 < line.size() && line[at + 1] == '"') {
            found.back() += line[++at];
        } else if (c == '"') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            found.emplace_back();
        } else {
            found.back() += c;
        }
    }
    if (quoted) throw std::invalid_argument("a quote is not closed");
    return found;
}

/// Rows in the text format of COPY.
std::string to_copy(
    const std::vector<std::string>& lines, std::size_t columns, const std::string& file, std::size_t first) {
    std::string text;
    for (std::size_t n = 0; n < lines.size(); ++n) {
        fields row;
        try {
            row = parse_line(lines[n]);
            if (row.size() != columns)
                throw std::invalid_argument(std::to_string(row.size()) + " fields, not " + std::to_string(columns));
        } catch (const std::exception& e) {
            throw std::invalid_argument(file + ":" + std::to_string(first + n) + ": " + e.what());
        }
        for (std::size_t c = 0; c < columns; ++c) {
            if (c > 0) text += '\t';
            for (char letter : row[c]) {
                switch (letter) {
                    case '\t': text += "\\t"; break;
                    case '\n': text += "\\n"; break;
                    case '\r': text += "\\r"; break;
                    case '\\': text += "\\\\"; break;
                    default: text += letter;
                }
            }
        }
        text += '\n';
    }
    return text;
}

class rate_limit {
public:
    explicit rate_limit(double per_second) : per_second_(per_second) {}
    aio::coro<> take(std::size_t count) {
        if (per_second_ <= 0) co_return;
        auto turn = co_await turn_.scoped();
        co_await aio::sleep(std::chrono::duration<double>(static_cast<double>(count) / per_second_));
    }

private:
    double per_second_;
    aio::lock turn_;
};

struct batch {
    std::string file;
    std::size_t first = 0;
    std::vector<std::string> lines;
};

aio::async_generator<batch> batches_of(std::vector<std::string> files) {
    for (const std::string& file : files) {
        batch b{file, 2, {}};
        auto lines = aio::read_lines(file);
        std::size_t number = 0;
        while (auto line = co_await lines.next()) {
            if (++number == 1) continue;  // the names of the columns
            b.lines.push_back(std::move(*line));
            if (b.lines.size() < 1000) continue;
            co_yield std::move(b);
            b = batch{file, number + 1, {}};
        }
        if (!b.lines.empty()) co_yield std::move(b);
    }
}

std::string identifier(const std::string& name) {
    std::string text = "\"";
    for (char c : name) text += c == '"' ? "\"\"" : std::string(1, c);
    return text + "\"";
}

aio::coro<> parse_all(
    std::vector<std::string> files, std::size_t columns, double rate, aio::queue<std::string>& parsed) {
    rate_limit limit(rate);
    auto parse = [&](batch b) -> aio::coro<std::string> {
        co_await limit.take(b.lines.size());
        co_return co_await aio::to_thread(to_copy, std::move(b.lines), columns, std::move(b.file), b.first);  // (1)
    };
    auto hand_on = [&](std::string text) { return parsed.put(std::move(text)); };
    co_await aio::for_each(batches_of(std::move(files)) | aio::views::concurrent(4, parse), hand_on);  // (2)
    parsed.shutdown();
}

aio::async_generator<std::string> all_of(aio::queue<std::string>& parsed) {
    try {
        for (;;) {
            std::string text = co_await parsed.get();
            co_yield std::move(text);
        }
    } catch (const aio::queue_shut_down&) {
        // that was all
    }
}

aio::coro<std::size_t> load(sql::connection& db, std::string table, std::vector<std::string> files, double rate) {
    auto lines = aio::read_lines(files.at(0));
    auto header = co_await lines.next();
    if (!header) throw std::invalid_argument(files[0] + " is empty");
    const fields names = parse_line(*header);
    std::string columns;
    for (const std::string& name : names) columns += (columns.empty() ? "" : ", ") + identifier(name) + " text";

    std::size_t rows = 0;
    co_await aio::with(db.transaction(), [&]() -> aio::coro<> {  // (3)
        co_await db.query("CREATE TABLE " + identifier(table) + " (" + columns + ")");
        aio::queue<std::string> parsed(8);  // (4)
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(parse_all(files, names.size(), rate, parsed));
            sql::rows done = co_await db.copy_in("COPY " + identifier(table) + " FROM STDIN", all_of(parsed));
            rows = done.affected();
        });
    });
    co_return rows;
}

aio::coro<int> async_main(std::string url, std::string table, std::vector<std::string> files, double rate) {
    auto& db = co_await aio::enter(sql::connect(url));
    std::string problem;
    try {
        const std::size_t rows = co_await load(db, table, files, rate);
        std::printf("%zu rows\n", rows);
    } catch (const aio::exception_group& group) {  // (5)
        const std::invalid_argument* bad = group.find<std::invalid_argument>();
        if (!bad) throw;
        problem = bad->what();
    }
    if (!problem.empty()) std::fprintf(stderr, "nothing was loaded: %s\n", problem.c_str());
    co_return problem.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    double rate = 0;
    if (words.size() > 3 && words[2] == "--rate") {
        rate = std::atof(words[3].c_str());
        words.erase(words.begin() + 2, words.begin() + 4);
    }
    if (words.size() < 3) {
        std::fprintf(stderr, "usage: etl URL TABLE [--rate ROWS_PER_SECOND] FILE...\n");
        return 2;
    }
    return aio::run_main(
        async_main(words[0], words[1], std::vector<std::string>(words.begin() + 2, words.end()), rate));
}

// (1) Parsing computes, so it runs on a thread: the loop reads and writes meanwhile. The batch is moved there and the
// text back. (2) Four batches at a time, and in order, whichever is ready first. (3) Nothing is loaded unless all is:
// an error rolls everything back, the table included. (4) If the database is slow, the queue is full, so the parsing
// waits, and so does the reading. Memory stays flat. (5) The group cancels the copy if the parsing fails, and brings
// the error here.
