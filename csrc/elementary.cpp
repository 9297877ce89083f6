#include "elementary.hpp"

#include <cmath>

namespace pairec::elementary {
namespace {

template <class F>
void each(const double* x, std::int64_t count, double* out, F function) noexcept {
  for (std::int64_t k = 0; k < count; ++k) out[k] = function(x[k]);
}

}  // namespace

void apply(Function function, const double* x, std::int64_t count, double* out) noexcept {
  switch (function) {
    case Function::log: each(x, count, out, [](double v) { return std::log(v); }); return;
    case Function::log2: each(x, count, out, [](double v) { return std::log2(v); }); return;
    case Function::log10: each(x, count, out, [](double v) { return std::log10(v); }); return;
    case Function::exp: each(x, count, out, [](double v) { return std::exp(v); }); return;
    case Function::sin: each(x, count, out, [](double v) { return std::sin(v); }); return;
    case Function::cos: each(x, count, out, [](double v) { return std::cos(v); }); return;
    case Function::acos: each(x, count, out, [](double v) { return std::acos(v); }); return;
  }
}

void power(const double* x, const double* y, std::int64_t count, double* out) noexcept {
  for (std::int64_t k = 0; k < count; ++k) out[k] = std::pow(x[k], y[k]);
}

void angle(const double* y, const double* x, std::int64_t count, double* out) noexcept {
  for (std::int64_t k = 0; k < count; ++k) out[k] = std::atan2(y[k], x[k]);
}

}  // namespace pairec::elementary
