// Reads LightGBM's model text. Source of the format: LightGBM src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
#include "forest.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "forest_objective.hpp"
#include "forest_words.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;
using std::string;
using std::string_view;

[[noreturn]] void refuse(size_t line, const string& what) {
  throw std::invalid_argument("line " + str(line) + ": " + what);
}

struct Field {
  string_view value;
  size_t line;
};

// The `name=value` lines of the header or of one tree.
struct Fields {
  string where;
  size_t line;
  std::map<string_view, Field> all{};

  void add(string_view text, size_t number) {
    const size_t equals = text.find('=');
    const string_view name = text.substr(0, equals);
    const string_view value = equals == text.npos ? string_view{} : text.substr(equals + 1);
    const auto [old, is_new] = all.try_emplace(name, Field{value, number});
    if (!is_new) {
      refuse(number, quoted(name) + " is given again, first on line " + str(old->second.line) + "; one is right");
    }
  }
  const Field* find(string_view name) const {
    const auto at = all.find(name);
    return at == all.end() ? nullptr : &at->second;
  }
  const Field& get(string_view name) const {
    if (const Field* field = find(name)) return *field;
    refuse(line, where + " has no field " + string(name));
  }
};

constexpr size_t kAlone = SIZE_MAX;

// The number that field `name`, or the entry `place` of it, says.
template <typename Number>
Number number(string_view text, size_t line, const char* name, size_t place = kAlone) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return value;
  const string what = name + (place == kAlone ? string() : "[" + str(place) + "]") + " is " + quoted(text);
  if (error == std::errc::result_out_of_range) refuse(line, what + ", too big or small to hold");
  refuse(line, what + "; " + (std::is_floating_point_v<Number> ? "a number" : "a whole number") + " is right");
}

int32_t integer(const Fields& fields, const char* name, int32_t low, int32_t high) {
  const Field& field = fields.get(name);
  const int32_t value = number<int32_t>(field.value, field.line, name);
  if (value < low || value > high) {
    refuse(field.line, string(name) + " is " + str(value) + "; " + str(low) + " to " +
                           str(high) + " is right");
  }
  return value;
}

// Counts before it converts: what the file claims never decides how much is allocated.
void expect_count(const Field& field, const string& name, size_t found, size_t count, const string& because) {
  if (found == count) return;
  refuse(field.line, name + " has " + str(found) + " entries; " + because + " asks for " + str(count));
}

template <typename Number>
std::vector<Number> numbers(const Fields& fields, const char* name, size_t count, const string& because) {
  const Field& field = fields.get(name);
  const std::vector<string_view> found = words(field.value);
  expect_count(field, name, found.size(), count, because);
  std::vector<Number> out;
  out.reserve(count);
  for (const string_view word : found) out.push_back(number<Number>(word, field.line, name, out.size()));
  return out;
}

// What a tree's text says about its inner nodes, before anything but lengths and numbers is believed.
struct TreeText {
  std::vector<int32_t> feature, type, left, right;
  std::vector<double> threshold;
  int32_t sets;
};

// The rule of inner node `node`; checks its feature, type and threshold.
unsigned read_rule(const TreeText& splits, size_t node, const Fields& fields, int32_t width) {
  const auto wrong = [&](const char* name, const string& value, const string& right) {
    refuse(fields.get(name).line, string(name) + "[" + str(node) + "] is " + value + "; " + right + " is right");
  };
  const int32_t feature = splits.feature[node], type = splits.type[node];
  const double threshold = splits.threshold[node];
  if (feature < 0 || feature >= width) {
    wrong("split_feature", str(feature), "0 to max_feature_idx=" + str(width - 1));
  }
  // Bit 0: by category. Bit 1: missing goes left. Bits 2 and 3: missing is None, Zero or NaN.
  const int32_t missing = type >> 2;
  if (type < 0 || missing > 2) wrong("decision_type", str(type), "0 to 11");
  if (type & 1) {
    if (!(threshold >= 0 && threshold < splits.sets && threshold == std::floor(threshold))) {
      wrong("threshold", str(threshold), "a set's number below num_cat=" + str(splits.sets));
    }
    return kBySet | kNanRight;
  }
  // LightGBM writes inf where all numbers go left and NaN goes right; it writes no other that is not finite.
  if (std::isnan(threshold)) wrong("threshold", "NaN", "a number");
  if (threshold == -INFINITY) wrong("threshold", "-inf", "a number or inf");
  const bool default_right = !(type & 2), zero_right = 0.0 > threshold;
  return ((missing != 0 ? default_right : zero_right) ? kNanRight : 0) |
         ((missing == 1 ? default_right : zero_right) ? kZeroRight : 0);
}

void read_sets(Forest& forest, const Fields& fields, int32_t sets) {
  const auto bounds = numbers<int32_t>(fields, "cat_boundaries", size_t(sets) + 1, "num_cat=" + str(sets));
  const size_t line = fields.get("cat_boundaries").line;
  if (bounds[0] != 0) refuse(line, "cat_boundaries[0] is " + str(bounds[0]) + "; 0 is right");
  for (size_t i = 1; i < bounds.size(); ++i) {
    if (bounds[i] >= bounds[i - 1]) continue;
    refuse(line, "cat_boundaries[" + str(i) + "] is " + str(bounds[i]) + "; not below its predecessor " +
                     str(bounds[i - 1]) + " is right");
  }
  const auto set = numbers<std::uint32_t>(fields, "cat_threshold", size_t(bounds.back()), "the last of cat_boundaries");
  const size_t base = forest.set.size();
  forest.set.insert(forest.set.end(), set.begin(), set.end());
  for (size_t i = 1; i < bounds.size(); ++i) forest.set_begin.push_back(base + size_t(bounds[i]));
}

// How many rows came by: for explanations only. Absent from what other tools write.
std::vector<double> covers(const Fields& fields, const char* name, size_t count, const string& because) {
  if (fields.find(name) == nullptr || fields.get(name).value.empty()) return std::vector<double>(count, 0.0);
  return numbers<double>(fields, name, count, because);
}

void add_tree(Forest& forest, const Fields& fields) {
  if (fields.find("is_linear") && integer(fields, "is_linear", 0, 1) == 1) {
    refuse(fields.get("is_linear").line, "is_linear is 1; 0 is right: trees with linear leaves are not supported");
  }
  const int32_t leaves = integer(fields, "num_leaves", 1, 1 << 30);
  const string because = "num_leaves=" + str(leaves);
  const auto value = numbers<double>(fields, "leaf_value", size_t(leaves), because);
  const size_t inner = size_t(leaves) - 1;
  const std::vector<double> weight = covers(fields, "leaf_count", size_t(leaves), because);
  forest.root.push_back(forest.nodes.size());
  if (leaves == 1) {  // the file has no split arrays, or empty ones
    forest.nodes.push_back({value[0], 0, 0, 0, weight[0]});
    return;
  }
  TreeText splits;
  splits.feature = numbers<int32_t>(fields, "split_feature", inner, because);
  splits.type = numbers<int32_t>(fields, "decision_type", inner, because);
  splits.left = numbers<int32_t>(fields, "left_child", inner, because);
  splits.right = numbers<int32_t>(fields, "right_child", inner, because);
  splits.threshold = numbers<double>(fields, "threshold", inner, because);
  const std::vector<double> cover = covers(fields, "internal_count", inner, because);
  splits.sets = integer(fields, "num_cat", 0, int32_t(inner));
  const size_t sets_before = forest.set_begin.size() - 1;
  if (splits.sets > 0) read_sets(forest, fields, splits.sets);

  // Breadth first over LightGBM's numbering: node i, or ~i for leaf i. Refusing what was seen also refuses cycles.
  std::vector<int32_t> order{0};
  order.reserve(inner + size_t(leaves));
  std::vector<std::uint8_t> seen(inner + size_t(leaves));
  seen[0] = 1;
  const auto visit = [&](const char* name, size_t node, int32_t child) {
    const auto wrong = [&](const string& what) {
      refuse(fields.get(name).line, string(name) + "[" + str(node) + "] is " + str(child) + what);
    };
    if (child < -leaves || child >= leaves - 1) {
      wrong("; -" + str(leaves) + " to " + str(leaves - 2) + " is right for " + because);
    }
    std::uint8_t& was_seen = seen[child < 0 ? inner + size_t(~child) : size_t(child)];
    if (was_seen) wrong(", which has a parent already or is the root; every node once is right");
    was_seen = 1;
    order.push_back(child);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] < 0) {
      const auto leaf = size_t(~order[i]);
      forest.nodes.push_back({value[leaf], int32_t(i), ~order[i], 0, weight[leaf]});
      continue;
    }
    const auto node = size_t(order[i]);
    const unsigned rule = read_rule(splits, node, fields, forest.width);
    double threshold = splits.threshold[node];
    if (rule & kBySet) {
      threshold += double(sets_before);  // a tree numbers its sets from 0, a forest goes on
      forest.categorical[size_t(splits.feature[node])] = 1;
    } else {
      threshold = at_edge_of_zero(threshold, rule);
    }
    forest.nodes.push_back({threshold, int32_t(order.size()), splits.feature[node], rule, cover[node]});
    visit("left_child", node, splits.left[node]);
    visit("right_child", node, splits.right[node]);
  }
  if (order.size() != seen.size()) {
    refuse(fields.get("left_child").line, "left_child and right_child reach " + str(order.size()) + " of " +
                                              str(seen.size()) + " nodes and leaves from the root; all is right");
  }
}

void read_names(Forest& forest, const std::vector<string_view>& names, size_t line) {
  std::map<string_view, size_t> seen;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto wrong = [&](const string& right) {
      refuse(line, "feature_names[" + str(i) + "] is " + quoted(names[i]) + right);
    };
    if (!is_utf8(names[i])) wrong("; UTF-8 is right");
    const auto [old, is_new] = seen.try_emplace(names[i], i);
    if (!is_new) wrong(", as feature_names[" + str(old->second) + "] is; a name of its own is right");
  }
  forest.names.assign(names.begin(), names.end());
}

void read_header(Forest& forest, const Fields& fields) {
  const Field& version = fields.get("version");
  if (version.value != "v2" && version.value != "v3" && version.value != "v4") {
    refuse(version.line, "version is " + quoted(version.value) + "; v2, v3 or v4 is right");
  }
  const int32_t last = integer(fields, "max_feature_idx", 0, (1 << 23) - 1);
  const string because = "max_feature_idx=" + str(last);
  for (const char* name : {"feature_names", "feature_infos"}) {
    const std::vector<string_view> found = words(fields.get(name).value);
    expect_count(fields.get(name), name, found.size(), size_t(last) + 1, because);
    if (forest.names.empty()) read_names(forest, found, fields.get(name).line);
  }
  forest.width = last + 1;
  forest.categorical.resize(size_t(forest.width));
  forest.classes = integer(fields, "num_tree_per_iteration", 1, INT32_MAX);
  forest.average = fields.find("average_output") != nullptr;
  if (const Field* objective = fields.find("objective")) {
    forest.objective = objective->value;
    try {
      objective_parse(objective->value, forest.classes);
    } catch (const std::invalid_argument& error) {
      refuse(objective->line, error.what());
    }
  }
  const Field* classes = fields.find("num_class");
  if (classes && number<int32_t>(classes->value, classes->line, "num_class") != forest.classes) {
    const string right = "; num_tree_per_iteration=" + str(forest.classes) + " is right";
    refuse(classes->line, "num_class is " + quoted(classes->value) + right);
  }
}

bool is_end(string_view line) {
  return line == "end of trees" || line == "feature importances:";  // the latter before LightGBM 2.3
}

}  // namespace

// With the threshold at the edge of the zeros, all that LightGBM takes for zero falls on that side by itself.
double at_edge_of_zero(double threshold, unsigned rule) noexcept {
  const bool zero_right = 0.0 > threshold;
  if (((rule & kZeroRight) != 0) != zero_right || !(std::fabs(threshold) <= kZero)) return threshold;
  return zero_right ? std::nextafter(-kZero, -1.0) : kZero;
}

void forest_parse(const char* text, size_t size, Forest& out) {
  Lines lines{{text, size}};
  const auto open = [&](string_view line) { return line.starts_with("Tree=") || is_end(line); };
  if (!lines.advance() || lines.line() != "tree") {
    refuse(1, "the file begins with " + quoted(lines.line()) + "; \"tree\" is right for LightGBM's model text");
  }
  Fields header{"the header", 1};
  bool more;
  while ((more = lines.advance()) && !open(lines.line())) {
    if (!lines.line().empty()) header.add(lines.line(), lines.number);
  }
  Forest forest;
  read_header(forest, header);

  std::vector<size_t> sizes;  // absent only from hand-written files
  const Field* sizes_field = header.find("tree_sizes");
  if (sizes_field) sizes = numbers<size_t>(header, "tree_sizes", words(sizes_field->value).size(), "");

  while (more && !is_end(lines.line())) {
    const size_t begin = lines.begin, number_line = lines.number, tree = forest.root.size();
    const string name = "Tree=" + str(tree);
    if (lines.line() != name) refuse(number_line, quoted(lines.line()) + " found; " + name + " is right");
    Fields fields{name, number_line};
    bool is_closed = false;
    while ((more = lines.advance()) && !open(lines.line())) {
      const string_view line = lines.line();
      if (line.empty()) {
        is_closed = true;
        continue;
      }
      if (is_closed || line.find('=') == line.npos) {
        refuse(lines.number, quoted(line) + " found in " + name + "; a field, a tree or \"end of trees\" is right");
      }
      fields.add(line, lines.number);
    }
    if (!more) break;
    add_tree(forest, fields);
    if (sizes_field && (tree >= sizes.size() || sizes[tree] != lines.begin - begin)) {
      const string right = tree < sizes.size() ? str(sizes[tree]) : "no such tree";
      refuse(number_line, name + " has " + str(lines.begin - begin) + " bytes; tree_sizes says " + right +
                              ". The file was edited or its line ends converted");
    }
  }
  if (!more) {
    refuse(lines.number, "the file ends after " + str(forest.root.size()) +
                             " whole trees without \"end of trees\": it is cut short");
  }
  const size_t trees = forest.root.size();
  if (sizes_field) expect_count(*sizes_field, "tree_sizes", sizes.size(), trees, "a file of " + str(trees) + " trees");
  if (trees == 0) refuse(lines.number, "the file has 0 trees; 1 or more is right");
  if (trees % size_t(forest.classes) != 0) {
    const size_t line = header.get("num_tree_per_iteration").line;
    const string right = "; a divisor of " + str(trees) + " trees is right";
    refuse(line, "num_tree_per_iteration is " + str(forest.classes) + right);
  }
  forest.base.assign(size_t(forest.classes), 0.0);  // not before: so many trees there are
  out = std::move(forest);
}

}  // namespace pairec
