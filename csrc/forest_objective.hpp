// What `Booster.predict` makes of raw scores: the objective of a model's text, and its transform bit for bit.
#pragma once
#include <cstdint>
#include <string_view>

namespace pairec {

struct Objective {
  enum class Kind : std::uint8_t { identity, square, exp, softplus, sigmoid, softmax };

  Kind kind = Kind::identity;
  double sigmoid = 1.0;  // of Kind::sigmoid: 1 / (1 + exp(-sigmoid * score))
};

// Reads the text after `objective=` of a model of `classes` trees an iteration. "" is a custom objective, whose scores
// stay as they are. A number has the value that LightGBM's own reader gives it, which is not always the nearest double.
// Throws std::invalid_argument: an unknown objective or parameter, a parameter missing or out of range, other classes.
Objective objective_parse(std::string_view text, std::int32_t classes);

// Turns raw scores into what Booster.predict(X) returns, in place, with the same bits; where one is NaN both are.
//   iterations            of a random forest (`average_output`), whose sums are divided by it first; 1 of other models
//   scores [count, classes]
// Source: LightGBM's GBDT::Predict and the ConvertOutput of src/objective/, version 4.
void objective_transform(const Objective& objective, std::int32_t iterations, double* scores, std::int64_t count,
                         std::int32_t classes) noexcept;

}  // namespace pairec
