#include <dlfcn.h>
#include <cstdio>

int main() {
    void* const plugin = ::dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) return std::fprintf(stderr, "%s\n", ::dlerror()), 1;
    const auto answer = reinterpret_cast<int (*)()>(::dlsym(plugin, "plugin_answer"));
    return answer && answer() == 42 ? 0 : 1;
}
