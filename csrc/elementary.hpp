// Elementary functions over columns, with the bits of the C library: those that Python's `math` gives for one number.
// NumPy's own loops differ from it in the last place on some machines, and an expression must mean the same for one
// item and for a column of items.
#pragma once
#include <cstdint>

namespace pairec::elementary {

enum class Function : std::uint8_t { log, log2, log10, exp, sin, cos, acos };

// out [count] = function(x [count]). `out` may be `x`.
void apply(Function function, const double* x, std::int64_t count, double* out) noexcept;

// out [count] = x [count] to the power y [count].
void power(const double* x, const double* y, std::int64_t count, double* out) noexcept;

// out [count] = the angle of (x [count], y [count]).
void angle(const double* y, const double* x, std::int64_t count, double* out) noexcept;

}  // namespace pairec::elementary
