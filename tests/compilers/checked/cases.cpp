// aiocxx-check has to report each line whose last comment names a rule, by that rule, and no other line. This file is
// not compiled.

aio::coro<record> initialisers() {
    record named{.a = co_await get(), .b = {}};         // R14
    record assigned = {co_await get(), "x"};            // R14
    record last{"x", co_await get()};                   // R14
    record nested{{co_await get()}, [] { return 1; }};  // R14
    record call{f(co_await get()), [] { go(); }()};     // R14
    std::string names[2] = {co_await get(), "x"};       // R14
    std::array<std::string, 2> pair{co_await get()};    // R14
    all.push_back(record{co_await get(), "x"});         // R14
    all.push_back({co_await get(), "x"});               // R14
    named = {co_await get(), "x"};                      // R14
    if (named.b) co_return record{co_await get()};      // R14
    co_return {co_await get(), "x"};                    // R14
}

aio::coro<> fine() {
    std::pair<std::string, std::string> both{co_await get(), "x"};
    std::string text{co_await get()};
    auto value{co_await get()};
    const int number{co_await count()};
    if (value.empty()) {
        for (int i = 0; i < number; ++i) { co_await step(i); }
    }
    if (number > 1) {
        if (co_await more()) { go(); }
    }
    record of_a_lambda{[&]() -> aio::coro<int> { co_return co_await count(); }};
    try {
        co_await step(1);
    } catch (const error&) { go(); }
    do { co_await step(2); } while (going);
    co_await with(db.transaction(), [&]() -> aio::coro<std::pair<rows, rows>> { co_return both_of(co_await count()); });
    auto server = co_await start_server(app, "127.0.0.1", 0, {.max_body_size = 10, .log = &log});
}

aio::coro<> the_other_rules() {
    co_await take(record{"a", "b"});         // R1
    co_await take([name] { return name; });  // R1
    while (co_await more()) go();            // R2
    if (co_await more()) go();               // R2
    go(ready && co_await more());            // R2
}
