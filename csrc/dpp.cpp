#include "dpp.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pairec {
namespace {

constexpr double taken = -std::numeric_limits<double>::infinity();
constexpr double nothing_left = 1e-10;

// The first of the largest, or -1 where all are taken or no number.
std::int32_t largest(const double* left, std::int32_t count) noexcept {
  std::int32_t best = -1;
  double most = taken;
  for (std::int32_t i = 0; i < count; ++i) {
    if (!(left[i] > most)) continue;
    most = left[i];
    best = i;
  }
  return best;
}

struct Choice {
  const Sums& sums;
  const DppScratch& of;
  std::int32_t count, dim;
  std::int64_t stride;
  bool positive;

  double likeness(double product, std::int32_t i, std::int32_t j) const noexcept {
    const double cosine = product * of.scale[i] * of.scale[j];
    return positive ? (cosine + 1.0) * 0.5 : cosine;
  }

  // The kernel's row of `chosen`, to of.row.
  void kernel_row(std::int32_t chosen) const noexcept {
    for (std::int32_t k = 0; k < dim; ++k) of.factor[k] = of.lane[k * stride + chosen];
    sums.narrow(of.lane, dim, stride, count, of.factor, of.row);
    for (std::int32_t i = 0; i < count; ++i)
      of.row[i] = of.quality[chosen] * likeness(of.row[i], i, chosen) * of.quality[i];
  }

  // Takes from what is left of all what `chosen`, the chain's link `link`, has of them.
  void take(std::int32_t chosen, std::int32_t link) const noexcept {
    const double root = std::sqrt(of.left[chosen]);
    double* found = of.chain + link * stride;
    kernel_row(chosen);
    for (std::int32_t k = 0; k < link; ++k) of.factor[k] = of.chain[k * stride + chosen];
    sums.wide(of.chain, link, stride, count, of.factor, of.sum);
    for (std::int32_t i = 0; i < count; ++i) {
      found[i] = (of.row[i] - of.sum[i]) / root;
      of.left[i] -= found[i] * found[i];
    }
    for (std::int32_t i = count; i % turned_block != 0; ++i) found[i] = 0.0;
    of.left[chosen] = taken;
  }
};

}  // namespace

std::int32_t dpp(const Sums& sums, const DppScratch& scratch, const double* relevance, std::int32_t count,
                 std::int32_t dim, std::int64_t stride, double alpha, std::int32_t size, std::int32_t window,
                 bool positive, std::int32_t* order) noexcept {
  const Choice choice{sums, scratch, count, dim, stride, positive};
  for (std::int32_t i = 0; i < count; ++i) scratch.quality[i] = std::exp(alpha * relevance[i]);
  size = std::min(size, count);
  for (std::int32_t begin = 0; begin < size;) {
    const std::int32_t end = size - begin > window ? begin + window : size;
    for (std::int32_t i = 0; i < count; ++i)
      scratch.left[i] = scratch.quality[i] * choice.likeness(scratch.square[i], i, i) * scratch.quality[i];
    for (std::int32_t place = 0; place < begin; ++place) scratch.left[order[place]] = taken;
    std::int32_t place = begin;
    for (; place < end; ++place) {
      const std::int32_t chosen = largest(scratch.left, count);
      if (chosen < 0) break;
      order[place] = chosen;
      if (place + 1 == end || scratch.left[chosen] < nothing_left) {
        ++place;
        break;
      }
      choice.take(chosen, place - begin);
    }
    // The rare rest, in order; O(count * size).
    for (std::int32_t i = 0; i < count && place < end; ++i)
      if (std::find(order, order + place, i) == order + place) order[place++] = i;
    begin = end;
  }
  return size;
}

}  // namespace pairec
