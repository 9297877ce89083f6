// Places on the earth as cells: S2 cell ids and geohashes.
//
// Latitudes and longitudes are degrees and finite; a longitude beyond 180 is the same meridian.
#pragma once
#include <cstdint>

namespace pairec::geo {

inline constexpr int level_max = 30;      // of an S2 cell: a leaf, about a square centimetre
inline constexpr int precision_max = 12;  // characters of a geohash: 60 of its 64 bits

// The S2 cell of `level` (0 to level_max) around a place: face, position on the Hilbert curve, a closing 1.
// Source: the S2 geometry overview; the quadratic projection.
std::uint64_t cell(double lat, double lng, int level) noexcept;

// Writes the cells of the same level that share an edge or a corner with `id`, in the order of S2's AllNeighbors:
// row below left, right; own row's bottom, top, left, right; row above left, right. At a corner of the cube one appears
// twice.
void neighbors(std::uint64_t id, std::uint64_t out[8]) noexcept;

// The first 5 * `precision` bits of a geohash, longitude first; `precision` 1 to precision_max.
std::uint64_t geohash(double lat, double lng, int precision) noexcept;

// Writes the geohashes around `hash` of the same precision: N, NE, E, SE, S, SW, W, NW.
void geohash_neighbors(std::uint64_t hash, int precision, std::uint64_t out[8]) noexcept;

}  // namespace pairec::geo
