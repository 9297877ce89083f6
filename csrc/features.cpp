#include "features.hpp"

#include <algorithm>
#include <limits>

#include "target.hpp"

namespace pairec {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

constexpr std::int32_t ahead = 8;   // slots: item rows lie anywhere in a large table, so their lines are asked for early
constexpr std::int32_t abreast = 4;  // inner products at once: one alone waits for each of its additions

void prefetch(const float* values, std::int32_t count) noexcept {
  for (std::int32_t i = 0; i < count; i += 16) __builtin_prefetch(values + i);
}

const float* right_vector(const Cross& cross, std::int32_t item) noexcept {
  return cross.right + static_cast<std::int64_t>(item) * cross.width;
}

void dots_baseline(const Cross& cross, const float* left, const std::int32_t* items, std::int32_t count,
                   float* out) noexcept {
  for (std::int32_t begin = 0; begin < count; begin += abreast) {
    const float* right[abreast];
    double sum[abreast] = {};
    for (std::int32_t lane = 0; lane < abreast; ++lane) {
      right[lane] = right_vector(cross, items[std::min(begin + lane, count - 1)]);
      const std::int32_t later = begin + lane + ahead;
      if (later < count) prefetch(right_vector(cross, items[later]), cross.width);
    }
    for (std::int32_t i = 0; i < cross.width; ++i)
      for (std::int32_t lane = 0; lane < abreast; ++lane)
        sum[lane] += static_cast<double>(left[i]) * static_cast<double>(right[lane][i]);
    for (std::int32_t lane = 0; lane < std::min(abreast, count - begin); ++lane)
      out[begin + lane] = static_cast<float>(sum[lane]);
  }
}

#if defined(__x86_64__)

// Dimensions i to i + 3 of four vectors: element lane of out[k] is dimension i + k of rows[lane].
PAIREC_TARGET_AVX2 inline void columns_of(const float* const* rows, std::int32_t i, __m256d* out) noexcept {
  __m256d row[4];
  for (int lane = 0; lane < 4; ++lane) row[lane] = _mm256_cvtps_pd(_mm_loadu_ps(rows[lane] + i));
  const __m256d even[2] = {_mm256_unpacklo_pd(row[0], row[1]), _mm256_unpacklo_pd(row[2], row[3])};
  const __m256d odd[2] = {_mm256_unpackhi_pd(row[0], row[1]), _mm256_unpackhi_pd(row[2], row[3])};
  out[0] = _mm256_permute2f128_pd(even[0], even[1], 0x20);
  out[1] = _mm256_permute2f128_pd(odd[0], odd[1], 0x20);
  out[2] = _mm256_permute2f128_pd(even[0], even[1], 0x31);
  out[3] = _mm256_permute2f128_pd(odd[0], odd[1], 0x31);
}

// Sixteen sums at once. A line is asked for here and there between the additions: as many as a block needs, asked for
// together, would fill what a core can have under way and hold it up.
PAIREC_TARGET_AVX2 void dots_avx2(const Cross& cross, const float* left, const std::int32_t* items, std::int32_t count,
                                  float* out) noexcept {
  constexpr std::int32_t block = 16, lead = 20;
  const std::int32_t width = cross.width, whole = count - count % block;
  const auto ask = [&](std::int32_t item) { prefetch(right_vector(cross, items[item]), width); };
  for (std::int32_t item = 0; item < std::min(lead, whole); ++item) ask(item);
  for (std::int32_t begin = 0; begin < whole; begin += block) {
    const std::int32_t last = std::min(begin + block + lead, count);
    std::int32_t next = begin + lead, i = 0;
    const float* right[block];
    for (std::int32_t lane = 0; lane < block; ++lane) right[lane] = right_vector(cross, items[begin + lane]);
    __m256d sum[block / 4] = {};
    for (; i + 4 <= width; i += 4) {
      if (next < last) ask(next++);
      for (std::int32_t four = 0; four < block / 4; ++four) {
        __m256d column[4];
        columns_of(right + 4 * four, i, column);
        for (int k = 0; k < 4; ++k)
          sum[four] = _mm256_add_pd(sum[four], _mm256_mul_pd(_mm256_set1_pd(static_cast<double>(left[i + k])), column[k]));
      }
    }
    while (next < last) ask(next++);
    for (std::int32_t lane = 0; lane < block; ++lane) {
      double total = sum[lane / 4][lane % 4];
      for (std::int32_t rest = i; rest < width; ++rest)
        total += static_cast<double>(left[rest]) * static_cast<double>(right[lane][rest]);
      out[begin + lane] = static_cast<float>(total);
    }
  }
  dots_baseline(cross, left, items + whole, count - whole, out + whole);
}

#endif

float cell(const Cross& cross, std::int32_t user, std::int32_t item) noexcept {
  const std::int32_t group = cross.user_group ? cross.user_group[user] : user;
  const std::int32_t column = std::min(cross.item_group ? cross.item_group[item] : item, cross.width - 1);
  if (group < 0 || column < 0) return missing;
  return cross.left[static_cast<std::int64_t>(group) * cross.width + column];
}

// The feature of one user with `count` items. Dot and cell only.
void values(const Cross& cross, std::int32_t user, const std::int32_t* items, std::int32_t count, float* out) noexcept {
  if (user < 0) {
    for (std::int32_t i = 0; i < count; ++i) out[i] = missing;
  } else if (cross.kind == Cross::Kind::dot) {
    cross.dots(cross, cross.left + static_cast<std::int64_t>(user) * cross.width, items, count, out);
  } else {
    for (std::int32_t i = 0; i < count; ++i) out[i] = cell(cross, user, items[i]);
  }
}

}  // namespace

Dots dots_kernel() {
#if defined(__x86_64__)
  if (isa_active() >= Isa::avx2) return dots_avx2;
#else
  isa_active();
#endif
  return dots_baseline;
}

void cross_features(Arena& arena, const Cross* crosses, std::int32_t cross_count, std::int32_t user,
                    const std::int32_t* history, std::int32_t history_count) noexcept {
  for (std::int32_t i = 0; i < cross_count; ++i) {
    const Cross& cross = crosses[i];
    float* column = arena.features + static_cast<std::int64_t>(cross.column) * arena.candidates_max;
    if (cross.kind != Cross::Kind::similarity) {
      values(cross, user, arena.row, arena.count, column);
      continue;
    }
    const std::int32_t count = used(cross, history_count);
    const double share = cross.newest > 0 ? static_cast<double>(count) : 1.0;
    accumulate(arena, cross.table, history + (history_count - count), count);
    for (std::int32_t slot = 0; slot < arena.count; ++slot) {
      const std::int32_t item = arena.overlay.item_of(arena.row[slot]);
      const double sum = arena.mark.contains(item) ? arena.sum[item] : 0.0;
      column[slot] = count ? static_cast<float>(sum / share) : missing;
    }
  }
}

void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept {
  for (std::int64_t i = 0; i < count; ++i) values(cross, users[i], items + i, 1, out + i);
}

}  // namespace pairec
