// expand_warm FILE: expands every payload of FILE (uint32 size, bytes) from a buffer of exactly its size, prints its rows
// a line each ("refused" for none), then does so again and fails if that allocated anything.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>

#include "expand.hpp"

namespace {
std::size_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main(int, char** arguments) {
  std::ifstream file(arguments[1], std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  pairec::Expander expander;
  std::string text;
  std::vector<std::size_t> ends;
  for (int turn = 0; turn < 2; ++turn) {
    if (turn == 1) allocations = 0;
    for (std::size_t at = 0; at < all.size();) {
      std::uint32_t size;
      std::memcpy(&size, all.data() + at, sizeof(size));
      auto* payload = static_cast<unsigned char*>(std::malloc(size));
      std::memcpy(payload, all.data() + at + sizeof(size), size);
      at += sizeof(size) + size;
      const bool good = expander.expand(payload, size, text, ends);
      if (turn == 0 && !good) std::puts("refused");
      std::size_t begin = 0;
      for (const std::size_t end : ends) {
        if (turn == 0) std::printf("%.*s\n", static_cast<int>(end - begin), text.data() + begin);
        begin = end;
      }
      // A gap has no uid.
      const auto uid = expander.uid();
      if (good && (expander.rows() != ends.size() ||
                   (!uid.empty() && (uid.data() < reinterpret_cast<char*>(payload) ||
                                     uid.data() + uid.size() > reinterpret_cast<char*>(payload + size)))))
        return 3;
      std::free(payload);
    }
  }
  std::fprintf(stderr, "%zu allocations when warm\n", allocations);
  return allocations == 0 ? 0 : 2;
}
