#pragma once
// An intrusive, doubly linked list. Its nodes are part of the elements, such as the operations in the frames of waiting
// coroutines: no allocation, O(1) removal from anywhere.

#include <cstddef>

namespace aio::inline v0::detail {

/// Tells a constructor to leave the members uninitialised, because they are set before they are read.
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
        unlink_for_good();
        prev = next = nullptr;
    }
    /// Works like unlink(), but leaves this node's own pointers as they are: linked() tells nothing afterwards.
    void unlink_for_good() noexcept {
        prev->next = next;
        next->prev = prev;
    }
};

/// A node that starts uninitialised: linked() tells nothing before the node has been put into a list.
struct waiting_node : list_node {
    waiting_node() noexcept : list_node(unset()) {}
};

/// A list of elements of type T, which derives from list_node. The list does not own them.
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
    /// Works like pop_front(), but with unlink_for_good(): the element's linked() tells nothing afterwards.
    T* take_first() noexcept {
        T* first = front();
        if (first) static_cast<list_node*>(first)->unlink_for_good();
        return first;
    }
    std::size_t size() const noexcept {  // O(n): for statistics
        std::size_t count = 0;
        for (const list_node* node = root_.next; node != &root_; node = node->next) ++count;
        return count;
    }
    /// Moves all elements of other to the end of this list.
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

}  // namespace aio::inline v0::detail
