#pragma once
// Durations, clocks and their literals. libstdc++'s <chrono> includes <sstream> for the sake of calendars, which is a
// third of what <aio/aio.hpp> would cost; <thread> and <mutex> take what they need of it from the same file as we do
// here.

#include <version>

#if defined(__GLIBCXX__) && __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif
