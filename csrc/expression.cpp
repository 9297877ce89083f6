#include "expression.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace pairec::expression {
namespace {

// What does not fit becomes the smallest int64, as in Go on x86-64, where PAI-Rec runs; a plain cast is undefined.
std::int64_t truncate(double x) noexcept {
  constexpr double limit = 9223372036854775808.0;  // 2^63
  return x >= -limit && x < limit ? static_cast<std::int64_t>(x) : std::numeric_limits<std::int64_t>::min();
}

template <class T>
void gather(const void* column, const std::int32_t* row, std::int32_t count, double* to) noexcept {
  const auto* values = static_cast<const T*>(column);
  for (std::int32_t k = 0; k < count; ++k) {
    const auto value = static_cast<double>(values[row[k]]);
    to[k] = value == value ? value : 0.0;
  }
}

void push(const Instruction& instruction, const Inputs& in, std::int32_t start, std::int32_t count,
          double* to) noexcept {
  switch (instruction.op) {
    case Op::constant: std::fill_n(to, count, instruction.value); return;
    case Op::input: std::copy_n(in.input[instruction.argument] + start, count, to); return;
    case Op::current_score: std::copy_n(in.current_score + start, count, to); return;
    case Op::algo_score: std::copy_n(in.algo_score + instruction.argument * in.algo_stride + start, count, to); return;
    case Op::float32: gather<float>(instruction.column, in.row + start, count, to); return;
    case Op::float64: gather<double>(instruction.column, in.row + start, count, to); return;
    case Op::int32: gather<std::int32_t>(instruction.column, in.row + start, count, to); return;
    case Op::int64: gather<std::int64_t>(instruction.column, in.row + start, count, to); return;
    case Op::uint8: gather<std::uint8_t>(instruction.column, in.row + start, count, to); return;
    default: return;
  }
}

// left [count] = left op right; `failed` [count] collects rows that divide by zero.
void combine(Op op, double* __restrict left, const double* __restrict right, std::int32_t count,
             std::uint8_t* __restrict failed) noexcept {
  switch (op) {
    case Op::add:
      for (std::int32_t k = 0; k < count; ++k) left[k] += right[k];
      return;
    case Op::subtract:
      for (std::int32_t k = 0; k < count; ++k) left[k] -= right[k];
      return;
    case Op::multiply:
      for (std::int32_t k = 0; k < count; ++k) left[k] *= right[k];
      return;
    case Op::divide:
      for (std::int32_t k = 0; k < count; ++k) failed[k] |= right[k] == 0.0;
      for (std::int32_t k = 0; k < count; ++k) left[k] /= right[k];
      return;
    case Op::modulo:
      for (std::int32_t k = 0; k < count; ++k) {
        const std::int64_t a = truncate(left[k]);
        const std::int64_t b = truncate(right[k]);
        failed[k] |= b == 0;
        // The smallest int64 % -1 traps in hardware; in Go it is 0, as everything % -1.
        left[k] = b == 0 || b == -1 ? 0.0 : static_cast<double>(a % b);
      }
      return;
    case Op::power:
      for (std::int32_t k = 0; k < count; ++k) left[k] = std::pow(left[k], right[k]);
      return;
    case Op::or_else:
      for (std::int32_t k = 0; k < count; ++k) left[k] = left[k] != 0.0 ? left[k] : right[k];
      return;
    default: return;
  }
}

}  // namespace

bool rows_below(const std::int32_t* row, std::int32_t count, std::int64_t rows) noexcept {
  std::uint32_t largest = 0;  // a negative row is a large one
  for (std::int32_t slot = 0; slot < count; ++slot) largest = std::max(largest, static_cast<std::uint32_t>(row[slot]));
  return count == 0 || largest < std::min<std::int64_t>(rows, std::int64_t{1} << 31);
}

void evaluate(const Instruction* program, std::int32_t length, const Inputs& inputs, std::int32_t count,
              double* out) noexcept {
  alignas(64) double stack[stack_max][block_rows];
  std::uint8_t failed[block_rows];
  for (std::int32_t start = 0; start < count; start += block_rows) {
    const std::int32_t rows = std::min(block_rows, count - start);
    std::memset(failed, 0, sizeof(failed));
    std::int32_t depth = 0;
    for (const Instruction* at = program; at != program + length; ++at) {
      if (is_push(at->op)) {
        push(*at, inputs, start, rows, stack[depth++]);
      } else {
        --depth;
        combine(at->op, stack[depth - 1], stack[depth], rows, failed);
      }
    }
    const double* result = stack[0];
    for (std::int32_t k = 0; k < rows; ++k)
      if (!failed[k] && result[k] == result[k]) out[start + k] = result[k];
  }
}

}  // namespace pairec::expression
