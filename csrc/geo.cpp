#include "geo.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace pairec::geo {
namespace {

constexpr int size = 1 << level_max;  // leaf cells along an edge of a face

struct Point {
  double x, y, z;
};

struct FaceUV {
  int face;  // 0 to 5: +x +y +z -x -y -z
  double u, v;
};

FaceUV project(const Point& p) noexcept {
  const double ax = std::fabs(p.x), ay = std::fabs(p.y), az = std::fabs(p.z);
  const int axis = ax > ay ? (ax > az ? 0 : 2) : (ay > az ? 1 : 2);
  const double along = axis == 0 ? p.x : axis == 1 ? p.y : p.z;
  switch (axis + (along < 0 ? 3 : 0)) {
    case 0: return {0, p.y / p.x, p.z / p.x};
    case 1: return {1, -p.x / p.y, p.z / p.y};
    case 2: return {2, -p.x / p.z, -p.y / p.z};
    case 3: return {3, p.z / p.x, p.y / p.x};
    case 4: return {4, p.z / p.y, -p.x / p.y};
    default: return {5, -p.y / p.z, -p.x / p.z};
  }
}

Point unproject(const FaceUV& at) noexcept {
  switch (at.face) {
    case 0: return {1, at.u, at.v};
    case 1: return {-at.u, 1, at.v};
    case 2: return {-at.u, -at.v, 1};
    case 3: return {-1, -at.v, -at.u};
    case 4: return {at.v, -1, -at.u};
    default: return {at.v, at.u, -1};
  }
}

// Cells of one level have nearly equal areas because of this curve.
double uv_to_st(double u) noexcept { return u >= 0 ? 0.5 * std::sqrt(1 + 3 * u) : 1 - 0.5 * std::sqrt(1 - 3 * u); }

int st_to_ij(double s) noexcept { return static_cast<int>(std::clamp(std::floor(size * s), 0.0, size - 1.0)); }

// The Hilbert curve visits the four children of a square in one of four orders; which, the way there has decided.
constexpr int swap_axes = 1, invert = 2;
constexpr std::uint64_t ij_to_position[4][4] = {{0, 1, 3, 2}, {0, 3, 1, 2}, {2, 3, 1, 0}, {2, 1, 3, 0}};
constexpr int position_to_ij[4][4] = {{0, 1, 3, 2}, {0, 2, 3, 1}, {3, 2, 0, 1}, {3, 1, 0, 2}};
constexpr int turn[4] = {swap_axes, 0, 0, invert | swap_axes};

std::uint64_t leaf(int face, int i, int j) noexcept {
  int orientation = face & swap_axes;
  std::uint64_t id = static_cast<std::uint64_t>(face);
  for (int bit = level_max - 1; bit >= 0; --bit) {
    const std::uint64_t position = ij_to_position[orientation][((i >> bit) & 1) << 1 | ((j >> bit) & 1)];
    id = id << 2 | position;
    orientation ^= turn[position];
  }
  return id << 1 | 1;
}

std::uint64_t parent(std::uint64_t id, int level) noexcept {
  const std::uint64_t last = std::uint64_t{1} << 2 * (level_max - level);
  return (id & (0 - last)) | last;
}

// A leaf that may lie beyond its face: then the neighbouring face has it.
std::uint64_t leaf_around(int face, int i, int j) noexcept {
  if (i >= 0 && j >= 0 && i < size && j < size) return leaf(face, i, j);
  // One leaf beyond the edge is enough to come out on the right face; further out the projection would bend.
  const double limit = std::nextafter(1.0, 2.0);
  const auto coordinate = [=](int k) {
    return std::clamp((2.0 * (std::clamp(k, -1, size) - size / 2) + 1) / size, -limit, limit);
  };
  const FaceUV at = project(unproject({face, coordinate(i), coordinate(j)}));
  return leaf(at.face, st_to_ij(0.5 * (at.u + 1)), st_to_ij(0.5 * (at.v + 1)));
}

// Of a coordinate in [-half, half): 32 bits. Beyond it wraps around, as the library's conversion does.
std::uint32_t quantize(double x, double half) noexcept {
  const double scaled = (x + half) / (2 * half) * 4294967296.0;
  constexpr double limit = 9223372036854775808.0;
  return scaled >= -limit && scaled < limit ? static_cast<std::uint32_t>(static_cast<std::int64_t>(scaled)) : 0;
}

std::uint64_t spread(std::uint32_t bits) noexcept {
  std::uint64_t x = bits;
  x = (x | x << 16) & 0x0000FFFF0000FFFF;
  x = (x | x << 8) & 0x00FF00FF00FF00FF;
  x = (x | x << 4) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x << 2) & 0x3333333333333333;
  return (x | x << 1) & 0x5555555555555555;
}

std::uint32_t gather(std::uint64_t x) noexcept {
  x &= 0x5555555555555555;
  x = (x | x >> 1) & 0x3333333333333333;
  x = (x | x >> 2) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x >> 4) & 0x00FF00FF00FF00FF;
  x = (x | x >> 8) & 0x0000FFFF0000FFFF;
  return static_cast<std::uint32_t>(x | x >> 16);
}

}  // namespace

std::uint64_t cell(double lat, double lng, int level) noexcept {
  const double phi = lat * (std::numbers::pi / 180), theta = lng * (std::numbers::pi / 180);
  const FaceUV at = project({std::cos(theta) * std::cos(phi), std::sin(theta) * std::cos(phi), std::sin(phi)});
  return parent(leaf(at.face, st_to_ij(uv_to_st(at.u)), st_to_ij(uv_to_st(at.v))), level);
}

void neighbors(std::uint64_t id, std::uint64_t out[8]) noexcept {
  const int face = static_cast<int>(id >> 61);
  const std::uint64_t last = id & (0 - id);
  int level = level_max;
  while (level > 0 && std::uint64_t{1} << 2 * (level_max - level) != last) --level;
  int orientation = face & swap_axes, i = 0, j = 0;
  for (int bit = level_max - 1; bit >= level_max - level; --bit) {
    const int position = static_cast<int>(id >> (2 * bit + 1) & 3);
    const int ij = position_to_ij[orientation][position];
    i |= (ij >> 1) << bit;
    j |= (ij & 1) << bit;
    orientation ^= turn[position];
  }
  const int step = 1 << (level_max - level);
  const std::pair<int, int> around[8] = {{-1, -1}, {1, -1}, {0, -1}, {0, 1}, {-1, 0}, {1, 0}, {-1, 1}, {1, 1}};
  for (int k = 0; k < 8; ++k) {
    // In 64 bits: two steps of a whole face are 2^31.
    const auto beyond = [](std::int64_t x) { return static_cast<int>(std::clamp<std::int64_t>(x, -1, size)); };
    const auto [across, up] = around[k];
    out[k] = parent(leaf_around(face, beyond(i + std::int64_t{across} * step), beyond(j + std::int64_t{up} * step)), level);
  }
}

std::uint64_t geohash(double lat, double lng, int precision) noexcept {
  return (spread(quantize(lat, 90)) | spread(quantize(lng, 180)) << 1) >> (64 - 5 * precision);
}

void geohash_neighbors(std::uint64_t hash, int precision, std::uint64_t out[8]) noexcept {
  const int bits = 5 * precision, lat_bits = bits / 2, lng_bits = bits - lat_bits;
  const std::uint64_t whole = hash << (64 - bits);
  const double lat_step = std::ldexp(180.0, -lat_bits), lng_step = std::ldexp(360.0, -lng_bits);
  const double south = gather(whole) / 4294967296.0 * 180 - 90, west = gather(whole >> 1) / 4294967296.0 * 360 - 180;
  const double lat = (south + (south + lat_step)) / 2, lng = (west + (west + lng_step)) / 2;
  const std::pair<int, int> around[8] = {{1, 0}, {1, 1}, {0, 1}, {-1, 1}, {-1, 0}, {-1, -1}, {0, -1}, {1, -1}};
  for (int k = 0; k < 8; ++k)
    out[k] = geohash(lat + around[k].first * lat_step, lng + around[k].second * lng_step, precision);
}

}  // namespace pairec::geo
