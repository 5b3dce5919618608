#pragma once
// The members of an aggregate in their order, for row::as<T>(). C++20 has no reflection: the number of members is the
// largest number of initialisers that the type takes, and a structured binding for each number gives the members.

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

template<class T>
struct sql_tuple : std::false_type {};
template<class... Ts>
struct sql_tuple<std::tuple<Ts...>> : std::true_type {};
template<class A, class B>
struct sql_tuple<std::pair<A, B>> : std::true_type {};

template<class T>
concept sql_struct = std::is_class_v<T> && std::is_aggregate_v<T>;

inline constexpr std::size_t most_members = 32;

struct any_member {
    template<class T>
    operator T() const;
};

template<class T, std::size_t... Members>
consteval bool takes_members(std::index_sequence<Members...>) {
    return requires { T{(static_cast<void>(Members), any_member())...}; };
}

template<class T, std::size_t Count = most_members + 1>
consteval std::size_t member_count() {
    static_assert(sql_struct<T>);
    if constexpr (Count == 0 || takes_members<T>(std::make_index_sequence<Count>())) {
        static_assert(Count <= most_members, "as<T>() takes a struct of at most 32 members");
        static_assert(std::is_default_constructible_v<T>, "as<T>() makes the struct without values first");
        return Count;
    } else {
        return member_count<T, Count - 1>();
    }
}

template<class F, class... Members>
void for_each_of(F& fn, Members&... members) {
    (fn(members), ...);
}

// clang-format off
template<std::size_t Count, class T, class F>
void for_each_few(T& v, F& fn) {
    if constexpr (Count == 1) { auto& [m1] = v;
        for_each_of(fn, m1); }
    else if constexpr (Count == 2) { auto& [m1, m2] = v;
        for_each_of(fn, m1, m2); }
    else if constexpr (Count == 3) { auto& [m1, m2, m3] = v;
        for_each_of(fn, m1, m2, m3); }
    else if constexpr (Count == 4) { auto& [m1, m2, m3, m4] = v;
        for_each_of(fn, m1, m2, m3, m4); }
    else if constexpr (Count == 5) { auto& [m1, m2, m3, m4, m5] = v;
        for_each_of(fn, m1, m2, m3, m4, m5); }
    else if constexpr (Count == 6) { auto& [m1, m2, m3, m4, m5, m6] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6); }
    else if constexpr (Count == 7) { auto& [m1, m2, m3, m4, m5, m6, m7] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7); }
    else if constexpr (Count == 8) { auto& [m1, m2, m3, m4, m5, m6, m7, m8] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8); }
    else if constexpr (Count == 9) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9); }
    else if constexpr (Count == 10) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10); }
    else if constexpr (Count == 11) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11); }
    else if constexpr (Count == 12) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12); }
    else if constexpr (Count == 13) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13); }
    else if constexpr (Count == 14) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14); }
    else if constexpr (Count == 15) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15); }
    else if constexpr (Count == 16) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16); }
}
template<std::size_t Count, class T, class F>
void for_each_many(T& v, F& fn) {
    if constexpr (Count == 17) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17); }
    else if constexpr (Count == 18) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18] = v;
        for_each_of(fn, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18); }
    else if constexpr (Count == 19) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19); }
    else if constexpr (Count == 20) { auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20); }
    else if constexpr (Count == 21) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21); }
    else if constexpr (Count == 22) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22); }
    else if constexpr (Count == 23) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23); }
    else if constexpr (Count == 24) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24); }
    else if constexpr (Count == 25) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25); }
    else if constexpr (Count == 26) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26); }
    else if constexpr (Count == 27) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27); }
    else if constexpr (Count == 28) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28); }
    else if constexpr (Count == 29) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29); }
    else if constexpr (Count == 30) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30); }
    else if constexpr (Count == 31) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30, m31] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30, m31); }
    else if constexpr (Count == 32) {
        auto& [
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30, m31, m32] = v;
        for_each_of(fn,
            m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22,
            m23, m24, m25, m26, m27, m28, m29, m30, m31, m32); }
}
// clang-format on

/// Calls fn for each member of v in its order.
template<class T, class F>
void for_each_member(T& v, F fn) {
    constexpr std::size_t count = member_count<T>();
    static_assert(count > 0, "as<T>() takes a struct that has members");
    if constexpr (count <= 16) {
        for_each_few<count>(v, fn);
    } else {
        for_each_many<count>(v, fn);
    }
}

}  // namespace aio::inline v0::detail
