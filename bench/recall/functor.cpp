// hnswlib asked in C++, its filter a functor over a bitset: what a user of its headers has, and no Python in between.
#include <cstddef>
#include <cstdint>
#include <string>

#include "hnswlib/hnswlib.h"

namespace {

struct Graph {
  Graph(const char* path, std::size_t dim, bool by_distance)
      : l2(dim), ip(dim), index(by_distance ? static_cast<hnswlib::SpaceInterface<float>*>(&l2) : &ip, path) {}

  hnswlib::L2Space l2;
  hnswlib::InnerProductSpace ip;
  hnswlib::HierarchicalNSW<float> index;
};

struct Allowed : hnswlib::BaseFilterFunctor {
  explicit Allowed(const std::uint8_t* bits) : bits(bits) {}
  bool operator()(hnswlib::labeltype label) override { return bits[label >> 3] >> (label & 7) & 1; }

  const std::uint8_t* bits;
};

}  // namespace

extern "C" {

void* graph_load(const char* path, std::size_t dim, int by_distance) { return new Graph(path, dim, by_distance != 0); }

// Writes to `rows` [k] the best first and returns how many there are. `bits`: one of each label, lowest bit first.
std::int32_t graph_search(void* graph, const float* query, std::int32_t k, std::int32_t ef, const std::uint8_t* bits,
                          std::int32_t* rows) {
  auto& index = static_cast<Graph*>(graph)->index;
  Allowed allowed(bits);
  index.setEf(ef);
  auto found = index.searchKnn(query, k, bits ? &allowed : nullptr);
  const auto count = static_cast<std::int32_t>(found.size());
  for (std::int32_t place = count; place-- > 0; found.pop()) rows[place] = static_cast<std::int32_t>(found.top().second);
  return count;
}
}
