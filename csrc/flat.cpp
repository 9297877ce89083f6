#include "flat.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <functional>

namespace pairec {
namespace {

using std::int32_t;

constexpr int32_t blocks_abreast = 128;  // scanned in one call

// The best k of what was pushed, in a buffer with a rising floor.
struct Kept {
  Best* best;
  int32_t k, room, count = 0;
  Best floor = 0;

  void push(float score, int32_t row) noexcept {
    const Best one = best_of(score, row);
    if (one <= floor) return;
    best[count++] = one;
    if (count < room) return;
    std::nth_element(best, best + k - 1, best + count, std::greater<>());
    count = k;
    floor = best[k - 1];
  }
};

void score_rows(const Flat& flat, const float* query, const int32_t* rows, int32_t count, float* scores,
                Kept& kept) noexcept {
  for (int32_t first = 0; first < count; first += rows_abreast) {
    const int32_t some = std::min(rows_abreast, count - first);
    flat.scorer.rows(query, flat.vectors, flat.width, rows + first, some, scores);
    for (int32_t i = 0; i < some; ++i) kept.push(scores[i], rows[first + i]);
  }
}

// Every row that counts, in float.
void score_all(const Flat& flat, const float* query, const Places& places, Scratch& scratch, Kept& kept) noexcept {
  auto* scores = reinterpret_cast<float*>(scratch.sums);
  int32_t count = 0;
  for (int32_t row = 0; row < flat.count; row += block_lanes) {
    for (unsigned lanes = places.lanes(row / block_lanes); lanes != 0; lanes &= lanes - 1)
      scratch.places[count++] = row + std::countr_zero(lanes);
    if (count + block_lanes <= rows_abreast && row + block_lanes < flat.count) continue;
    score_rows(flat, query, scratch.places, count, scores, kept);
    count = 0;
  }
}

// How far a score by codes may be off: `by_scale` times the scale of the row, and `fixed`.
struct Bound {
  float by_scale, fixed;
};

Bound bound(const Flat& flat, const float* query, const Codes& codes) noexcept {
  double square = 0.0, coded = 0.0, missed = 0.0;
  for (int32_t lane = 0; lane < flat.width; ++lane) {
    const double code = static_cast<double>(codes.unit) * codes.query[lane];
    square += static_cast<double>(query[lane]) * query[lane];
    coded += code * code;
    missed += (query[lane] - code) * (query[lane] - code);
  }
  // Sums of floats are off by half a bit a step.
  const double step = (flat.width + 16.0) * 0x1p-23, length = std::sqrt(square);
  const double by_scale = std::sqrt(missed) * flat.span + std::sqrt(coded) * flat.error + length * flat.span * step;
  // Of tiny ones all bits but a few are lost (below 2^-126), and a dot of codes has up to 2^14 a lane to lose them by.
  double fixed = flat.width * 0x1p-134;
  if (flat.l2) fixed += (length + flat.longest) * (length + flat.longest) * step;
  return {static_cast<float>(by_scale * 1.0001), static_cast<float>(fixed * 1.0001)};
}

// Leaves in the pool, whose keys are what scores may be at most, what may be among the k best. False if that is too much.
bool narrow(const Flat& flat, Pool& pool, int32_t k, const Bound& off, int32_t* sums, int32_t* floor) noexcept {
  if (pool.count < k) return pool.count <= pool.capacity - block_lanes;
  const float twice = flat.l2 ? 4.0f : 2.0f;
  for (int32_t i = 0; i < pool.count; ++i) {
    const float less = twice * off.by_scale * flat.scale[pool.places[i]] * 1.0001f + 2.0f * off.fixed;
    sums[i] = ordered(score_of(pool.keys[i]) - less);
  }
  *floor = flat.blocks.floor_of({sums, pool.places, pool.capacity, pool.count}, nullptr, k, 0);
  flat.blocks.narrow(pool, *floor);
  return pool.count <= pool.capacity - pool_spare;
}

// The places that may be among the k best, in scratch.places. Negative if they are too many.
int32_t scan(const Flat& flat, const float* query, int32_t k, const Places& places, Scratch& scratch) noexcept {
  const Codes codes = quantise(query, flat.width, flat.quads, flat.width, scratch.query);
  const Bound off = bound(flat, query, codes);
  const auto capacity = static_cast<int32_t>(std::min<std::int64_t>(pool_room(flat_keep(k)), scratch.room));
  Pool pool{scratch.keys, scratch.places, capacity, 0};
  int32_t floor = INT32_MIN;
  const int32_t blocks = (flat.count + block_lanes - 1) / block_lanes;
  Scan scan{};
  scan.codes = flat.codes;
  scan.unit = (flat.l2 ? 2.0f : 1.0f) * codes.unit;
  scan.base = (flat.l2 ? 2.0f : 1.0f) * off.by_scale;
  scan.scale = flat.scale;
  scan.bias = flat.bias;
  scan.places = places;
  int32_t block[blocks_abreast + blocks_ahead];
  scan.block = block;
  for (int32_t done = 0; done < blocks;) {
    for (int32_t i = 0; i < blocks_abreast + blocks_ahead; ++i) block[i] = std::min(done + i, blocks - 1);
    scan.count = std::min(blocks_abreast, blocks - done);
    scan.floor = floor;
    done += flat.blocks.scan8(codes, scan, pool);
    if (pool.count > pool.capacity - block_lanes && !narrow(flat, pool, k, off, scratch.sums, &floor)) return -1;
  }
  narrow(flat, pool, k, off, scratch.sums, &floor);
  return pool.count;
}

}  // namespace

std::int32_t flat_search(const Flat& flat, const float* query, std::int32_t k, const Places& places,
                         const std::int32_t* listed, std::int32_t listed_count, Scratch& scratch, std::int32_t* rows,
                         float* scores) noexcept {
  auto* sums = reinterpret_cast<float*>(scratch.sums);
  Kept kept{scratch.best, k, best_room(k, scratch)};
  if (listed != nullptr) {
    int32_t count = 0;
    for (int32_t i = 0; i < listed_count; ++i) {
      if (places.has(listed[i])) scratch.places[count++] = listed[i];
      if (count < rows_abreast && i + 1 < listed_count) continue;
      score_rows(flat, query, scratch.places, count, sums, kept);
      count = 0;
    }
  } else {
    const std::int32_t count = scan(flat, query, k, places, scratch);
    if (count < 0)
      score_all(flat, query, places, scratch, kept);
    else
      score_rows(flat, query, scratch.places, count, sums, kept);
  }
  return write_best(scratch.best, scratch.spare, kept.count, k, rows, scores);
}

}  // namespace pairec
