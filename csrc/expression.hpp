// A postfix program over columns: how RankScore becomes a number per candidate.
//
// Rows are taken in blocks, so that every instruction is one plain loop and the stack of a block stays in L1.
#pragma once
#include <cstdint>

namespace pairec::expression {

inline constexpr std::int32_t stack_max = 32;  // values on the stack: `1+(2+(3+…` to 32 levels
inline constexpr std::int32_t block_rows = 128;  // 32 values of 128 float64 are 32 KiB, one L1
inline constexpr std::int32_t inputs_max = 64;

enum class Op : std::uint8_t {
  constant,       // value
  input,          // inputs.input[argument][row]
  current_score,  // inputs.current_score[slot]
  algo_score,     // inputs.algo_score[argument * algo_stride + slot]
  float32, float64, int32, int64, uint8,  // column[inputs.row[slot]] of that dtype; a NaN is a missing value, 0
  add, subtract, multiply,
  divide,   // by zero: the row has failed
  modulo,   // both sides truncated to int64; by zero: the row has failed
  power,    // std::pow
  or_else,  // the left side unless it is 0, then the right
};

inline constexpr bool is_push(Op op) noexcept { return op < Op::add; }

struct Instruction {
  Op op;
  std::int32_t argument;
  double value;
  const void* column;
};

// What the pushes of a program read; pointers that no instruction names may be null.
struct Inputs {
  const double* const* input;  // [inputs_max] of float64 [count]
  const double* current_score;  // [count]
  const double* algo_score;    // [algos, algo_stride]
  std::int64_t algo_stride;
  const std::int32_t* row;     // [count] in range of every gathered column: see rows_below
};

// True when every row [count] is at least 0 and below `rows`. O(count), vectorised.
bool rows_below(const std::int32_t* row, std::int32_t count, std::int64_t rows) noexcept;

// Writes to `out` [count] what `program` [length] computes for each row. A row that divides by zero, or whose result is
// not a number, keeps what `out` had: the score that goes on to rerank has no NaN.
// Requires that the stack never holds fewer than two values at an operator nor more than stack_max, and ends with one.
// O(count * length). Allocates nothing.
void evaluate(const Instruction* program, std::int32_t length, const Inputs& inputs, std::int32_t count,
              double* out) noexcept;

}  // namespace pairec::expression
