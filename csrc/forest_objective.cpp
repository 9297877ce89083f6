// Source of the names and formulas: LightGBM src/objective/*.hpp; of the numbers: Common::Atof in utils/common.h.
#include "forest_objective.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "forest_words.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;
using std::string;
using std::string_view;
using Kind = Objective::Kind;

struct Known {
  string_view name;
  Kind kind;
  std::array<string_view, 2> parameters;  // those of `must_have` must be given
};

// LightGBM writes neither alpha nor tweedie_variance_power, but people do; both shape the training alone.
constexpr Known known[] = {
    {"regression", Kind::identity, {"sqrt"}},
    {"regression_l1", Kind::identity, {"sqrt"}},
    {"huber", Kind::identity, {"alpha"}},
    {"fair", Kind::identity, {"sqrt"}},
    {"poisson", Kind::exp, {}},
    {"quantile", Kind::identity, {"sqrt", "alpha"}},
    {"mape", Kind::identity, {"sqrt"}},
    {"gamma", Kind::exp, {}},
    {"tweedie", Kind::exp, {"tweedie_variance_power"}},
    {"binary", Kind::sigmoid, {"sigmoid"}},
    {"multiclass", Kind::softmax, {"num_class"}},
    {"multiclassova", Kind::sigmoid, {"num_class", "sigmoid"}},
    {"cross_entropy", Kind::sigmoid, {}},
    {"cross_entropy_lambda", Kind::softplus, {}},
    {"xentropy", Kind::sigmoid, {}},     // before LightGBM 2.3
    {"xentlambda", Kind::softplus, {}},  // before LightGBM 2.3
    {"lambdarank", Kind::identity, {}},
    {"rank_xendcg", Kind::identity, {}},
    {"custom", Kind::identity, {}},
};

bool must_have(string_view parameter) { return parameter == "sigmoid" || parameter == "num_class"; }

[[noreturn]] void refuse(const string& what) { throw std::invalid_argument(what); }

const Known& look_up(string_view name) {
  string names;
  for (const Known& each : known) {
    if (each.name == name) return each;
    names += (names.empty() ? "" : ", ") + string(each.name);
  }
  refuse("objective is " + quoted(name) + ", which is unknown; one of " + names + " is right");
}

// "parameter:value" as it is shown to whom gave another.
string forms(const Known& of) {
  string out;
  for (const string_view parameter : of.parameters) {
    if (parameter.empty()) continue;
    const char* value = parameter == "sqrt" ? "" : parameter == "num_class" ? ":<whole number>" : ":<number>";
    out += (out.empty() ? "" : " or ") + string(parameter) + value;
  }
  return out.empty() ? "nothing" : out;
}

// A positive decimal number, with the roundings of LightGBM's reader: digits before and after the point apart, then
// scaled by the exponent in three strides. "7.7063e-05" and many like it are not the nearest double.
double positive(string_view text, const string& name) {
  const auto wrong = [&] { refuse("objective has " + name + quoted(text) + "; a number above 0 is right"); };
  size_t at = 0;
  const auto is_digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  const auto digits = [&] {
    double value = 0.0;
    for (const size_t begin = at; is_digit(); ++at) {
      if (at - begin >= 22) wrong();  // up to here the powers of ten below are exact
      value = value * 10.0 + (text[at] - '0');
    }
    return value;
  };
  if (!is_digit()) wrong();
  double value = digits();
  if (at < text.size() && text[at] == '.') {
    const size_t begin = ++at;
    const double fraction = digits();
    double scale = 1.0;
    for (size_t i = begin; i < at; ++i) scale *= 10.0;
    value += fraction / scale;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool is_negative = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (!is_digit()) wrong();
    double exponent = digits(), scale = 1.0;
    if (exponent > 308) wrong();
    for (; exponent >= 50; exponent -= 50) scale *= 1e50;
    for (; exponent >= 8; exponent -= 8) scale *= 1e8;
    for (; exponent > 0; exponent -= 1) scale *= 10.0;
    value = is_negative ? value / scale : value * scale;
  }
  if (at != text.size() || !(value > 0.0) || std::isinf(value)) wrong();
  return value;
}

int32_t whole(string_view text, const string& name) {
  int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    refuse("objective has " + name + quoted(text) + "; a whole number is right");
  }
  return value;
}

double sigmoid_of(double score, double sigmoid) noexcept { return 1.0 / (1.0 + std::exp(-sigmoid * score)); }

// The order of the sum is LightGBM's, and so is max's where a score is NaN.
void softmax(double* scores, int32_t classes) noexcept {
  double most = scores[0];
  for (int32_t k = 1; k < classes; ++k) most = std::max(scores[k], most);
  double sum = 0.0;
  for (int32_t k = 0; k < classes; ++k) sum += scores[k] = std::exp(scores[k] - most);
  for (int32_t k = 0; k < classes; ++k) scores[k] /= sum;
}

}  // namespace

Objective objective_parse(string_view text, int32_t classes) {
  const std::vector<string_view> found = words(text);
  if (found.empty()) return {};
  const Known& objective = look_up(found[0]);
  const string name = "objective=" + string(objective.name);
  Objective out{objective.kind};
  int32_t outputs = 1;
  double ignored;
  std::array<bool, 2> is_given{};
  for (size_t i = 1; i < found.size(); ++i) {
    const size_t colon = found[i].find(':');
    const string_view parameter = found[i].substr(0, colon);
    const auto at = std::find(objective.parameters.begin(), objective.parameters.end(), parameter);
    if (parameter.empty() || at == objective.parameters.end() || (parameter == "sqrt") != (colon == text.npos)) {
      refuse(name + " is followed by " + quoted(found[i]) + "; " + forms(objective) + " is right");
    }
    bool& was_given = is_given[size_t(at - objective.parameters.begin())];
    if (was_given) refuse(name + " has " + string(parameter) + " twice; once is right");
    was_given = true;
    if (parameter == "sqrt") {
      out.kind = Kind::square;
      continue;
    }
    const string_view value = found[i].substr(colon + 1);
    const string label = string(parameter) + ":";
    if (parameter == "num_class") {
      outputs = whole(value, label);
    } else {
      (parameter == "sigmoid" ? out.sigmoid : ignored) = positive(value, label);
    }
  }
  for (size_t i = 0; i < is_given.size(); ++i) {
    const string_view parameter = objective.parameters[i];
    if (!must_have(parameter) || is_given[i]) continue;
    refuse(name + " has no " + string(parameter) + "; " + forms(objective) + " is right");
  }
  if (objective.name != "custom" && outputs != classes) {
    refuse(name + " is for num_class=" + str(outputs) + "; num_tree_per_iteration=" + str(classes) + " is right");
  }
  return out;
}

void objective_transform(const Objective& objective, int32_t iterations, double* scores, std::int64_t count,
                         int32_t classes) noexcept {
  const size_t cells = size_t(count) * size_t(classes);
  if (iterations != 1) {
    for (size_t i = 0; i < cells; ++i) scores[i] /= iterations;
  }
  switch (objective.kind) {
    case Kind::identity:
      return;
    case Kind::square:
      for (size_t i = 0; i < cells; ++i) {
        const int sign = (scores[i] > 0) - (scores[i] < 0);
        scores[i] = sign * scores[i] * scores[i];
      }
      return;
    case Kind::exp:
      for (size_t i = 0; i < cells; ++i) scores[i] = std::exp(scores[i]);
      return;
    case Kind::softplus:
      for (size_t i = 0; i < cells; ++i) scores[i] = std::log1p(std::exp(scores[i]));
      return;
    case Kind::sigmoid:
      for (size_t i = 0; i < cells; ++i) scores[i] = sigmoid_of(scores[i], objective.sigmoid);
      return;
    case Kind::softmax:
      for (std::int64_t row = 0; row < count; ++row) softmax(scores + size_t(row) * size_t(classes), classes);
      return;
  }
}

}  // namespace pairec
