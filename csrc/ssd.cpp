#include "ssd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pairec {
namespace {

constexpr double taken = -std::numeric_limits<double>::infinity();
// Squared lengths below this share of a vector's own are rounding: differences of sums in double err by some 1e-15. What
// is left of the chosen is summed afresh and errs by its square.
constexpr double rounding = 1e-13, rounding_chosen = 1e-24;

std::int32_t largest(const double* worth, const double* left, double volume, std::int32_t count) noexcept {
  std::int32_t best = -1;
  double most = taken;
  for (std::int32_t i = 0; i < count; ++i) {
    if (left[i] == taken) continue;
    const double quality = worth[i] + volume * std::sqrt(left[i]);
    if (best >= 0 && !(quality > most)) continue;  // one that is worth minus infinity is still the first
    most = quality;
    best = i;
  }
  return best;
}

struct Choice {
  const Sums& sums;
  const SsdScratch& of;
  std::int32_t count, dim;
  std::int64_t stride;

  // What is left of `chosen` after the links [oldest, newest) of the ring, to of.newest. Answers its squared length.
  double remainder(std::int32_t chosen, std::int64_t oldest, std::int64_t newest, std::int32_t window) const noexcept {
    double* vector = of.newest;
    for (std::int32_t k = 0; k < dim; ++k) vector[k] = of.lane[k * stride + chosen] * of.scale[chosen];
    vector[dim] = of.last[chosen];
    for (std::int64_t link = oldest; link < newest; ++link) {
      const double share = of.projection[link % window * stride + chosen];
      const double* other = of.chosen + link % window * (dim + 1);
      for (std::int32_t k = 0; k <= dim; ++k) vector[k] -= share * other[k];
    }
    double square = 0.0;
    for (std::int32_t k = 0; k <= dim; ++k) square += vector[k] * vector[k];
    if (square > rounding_chosen * of.whole[chosen]) return square;
    std::fill(vector, vector + dim + 1, 0.0);
    return 0.0;
  }

  // Takes the direction of of.newest from what is left of all, and remembers it as the ring's place `at`.
  void take(std::int32_t at, double square) const noexcept {
    double* projection = of.projection + at * stride;
    std::copy(of.newest, of.newest + dim + 1, of.chosen + static_cast<std::int64_t>(at) * (dim + 1));
    of.chosen_square[at] = square;
    if (square == 0.0) {
      std::fill(projection, projection + count, 0.0);
      return;
    }
    sums.narrow(of.lane, dim, stride, count, of.newest, of.sum);
    for (std::int32_t i = 0; i < count; ++i) {
      projection[i] = (of.sum[i] * of.scale[i] + of.newest[dim] * of.last[i]) / square;
      const double left = of.left[i] - projection[i] * projection[i] * square;
      of.left[i] = of.left[i] == taken ? taken : left > rounding * of.whole[i] ? left : 0.0;
    }
  }

  void give_back(std::int32_t at) const noexcept {
    const double* projection = of.projection + at * stride;
    for (std::int32_t i = 0; i < count; ++i) of.left[i] += projection[i] * projection[i] * of.chosen_square[at];
  }
};

}  // namespace

std::int32_t ssd(const Sums& sums, const SsdScratch& scratch, const double* worth, std::int32_t count, std::int32_t dim,
                 std::int64_t stride, const Ssd& conf, std::int32_t* order) noexcept {
  const Choice choice{sums, scratch, count, dim, stride};
  const std::int32_t size = std::min(conf.size, count), window = conf.window;
  for (std::int32_t i = 0; i < count; ++i) {
    scratch.whole[i] = scratch.square[i] * scratch.scale[i] * scratch.scale[i] + scratch.last[i] * scratch.last[i];
    scratch.left[i] = scratch.whole[i];
  }
  double volume = conf.gamma;
  for (std::int32_t place = 0; place < size; ++place) {
    const std::int32_t chosen = largest(worth, scratch.left, place == 0 ? 0.0 : volume, count);
    order[place] = chosen;
    if (place + 1 == size) break;
    const std::int32_t oldest = std::max(0, place - window);
    const double square = choice.remainder(chosen, oldest, place, window);
    scratch.left[chosen] = taken;
    if (!conf.star) volume *= std::sqrt(square);
    if (place >= window) choice.give_back(place % window);
    choice.take(place % window, square);
  }
  return size;
}

}  // namespace pairec
