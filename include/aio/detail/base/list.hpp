#pragma once
// An intrusive, doubly linked list: waiters in the frames of those who wait. No allocation, O(1) removal from anywhere.

#include <cstddef>

namespace aio::detail {

/// To a constructor: leave it as the memory is, for it is about to be set.
struct unset {};

struct list_node {
    list_node* prev;
    list_node* next;

    list_node() noexcept : prev(nullptr), next(nullptr) {}
    explicit list_node(unset) noexcept {}
    list_node(const list_node&) noexcept : list_node() {}  // a copy is in no list
    // NOLINTNEXTLINE(bugprone-unhandled-self-assignment): an assignment changes nothing
    list_node& operator=(const list_node&) noexcept { return *this; }
    bool linked() const noexcept { return next != nullptr; }
    void unlink() noexcept {
        leave_list();
        prev = next = nullptr;
    }
    /// The same for one of which nobody will ask whether it is linked.
    void leave_list() noexcept {
        prev->next = next;
        next->prev = prev;
    }
};

/// Of something that is linked before anybody asks whether it is.
struct waiting_node : list_node {
    waiting_node() noexcept : list_node(unset()) {}
};

/// T derives from list_node. The list owns nothing.
template<class T>
class list {
public:
    list() noexcept { root_.prev = root_.next = &root_; }
    list(const list&) = delete;
    list& operator=(const list&) = delete;

    bool empty() const noexcept { return root_.next == &root_; }
    T* front() const noexcept { return empty() ? nullptr : static_cast<T*>(root_.next); }
    T* after(const T& node) const noexcept {
        return static_cast<const list_node&>(node).next == &root_
            ? nullptr
            : static_cast<T*>(static_cast<const list_node&>(node).next);
    }
    void push_back(T& element) noexcept { insert(element, root_); }
    void push_front(T& element) noexcept { insert(element, *root_.next); }
    T* pop_front() noexcept {
        T* first = front();
        if (first) static_cast<list_node*>(first)->unlink();
        return first;
    }
    /// The same where nobody will ask whether that one is linked.
    T* take_first() noexcept {
        T* first = front();
        if (first) static_cast<list_node*>(first)->leave_list();
        return first;
    }
    std::size_t size() const noexcept {  // O(n): for statistics
        std::size_t count = 0;
        for (const list_node* node = root_.next; node != &root_; node = node->next) ++count;
        return count;
    }
    /// Takes all of other's elements, behind those that are here.
    void splice(list& other) noexcept {
        if (other.empty()) return;
        list_node* first = other.root_.next;
        list_node* last = other.root_.prev;
        first->prev = root_.prev;
        root_.prev->next = first;
        last->next = &root_;
        root_.prev = last;
        other.root_.prev = other.root_.next = &other.root_;
    }

private:
    static void insert(list_node& node, list_node& before) noexcept {
        node.next = &before;
        node.prev = before.prev;
        before.prev->next = &node;
        before.prev = &node;
    }
    list_node root_;
};

}  // namespace aio::detail
