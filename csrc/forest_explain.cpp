// Along the way from the root to a leaf, feature j lets the row through if it is known and the row goes this way
// (o = 1; otherwise 0), or, if it is not known, in the proportion z of the covers. Over all orders in which features
// may become known, feature i's share of the leaf's value v is
//   v (o_i - z_i) * integral from 0 to 1 of the product over j != i of (z_j (1 - t) + o_j t) dt:
// t is the moment at which i becomes known, and every other feature is known by then with probability t. The integrand
// is a polynomial, so Gauss's rule of half as many points as the way has features gives the integral itself. All terms
// of its sum have one sign, so nothing cancels. (Where products are extended by a feature and unwound of it, errors
// grow with every one: LightGBM 4.7 has 6 digits left of a way of 40 features, and none of 100. test_forest_explain.py,
// "to the last digits".) And the way to a node is shared by the leaves below it.
//
// Let f_e = z_e (1 - t) + o_e t be the factor of edge e, in which z_e and o_e are products over the edges of its
// feature from the root to e: an edge replaces the factor f_a of the last edge a above that has its feature (none:
// z = o = f = 1). Let G_e be the sum, over the leaves below e, of v times the product of their factors. Then e adds
//   integral of G_e ((o_e - z_e) / f_e - (o_a - z_a) / f_a)
// to its feature. With o_a = 1 that is G_e (z_a - z_e) / (f_a f_e) where the row takes e, and -G_e / (f_a (1 - t))
// where it does not. With o_a = 0 it is nothing. No divisor is zero while 0 < t < 1.
#include "forest_explain.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint8_t;

// Points are taken four at a time, so that a tree's tables stay small however deep it is: few trees of thirty leaves
// ask for more than eight. A rule has whole fours of them, for more points than needed are as exact.
constexpr size_t kPoints = 4;
typedef double Points __attribute__((vector_size(kPoints * sizeof(double))));

// Gauss's rule on [0, 1]: the sum of weight[q] * f(t[q]).
struct Rule {
  std::vector<double> t, rest, weight;  // rest: 1 - t, without the rounding
};

Rule rule_of(size_t points) {
  Rule out{std::vector<double>(points), std::vector<double>(points), std::vector<double>(points)};
  const auto n = static_cast<long double>(points);
  for (size_t i = 0; i < points / 2; ++i) {
    // Newton's method for the zeros x of the Legendre polynomial; from this guess it doubles its digits at once.
    long double x = std::cos(std::numbers::pi_v<long double> * (static_cast<long double>(i) + 0.75L) / (n + 0.5L));
    long double slope = 1;
    for (int round = 0; round < 6; ++round) {
      long double value = x, before = 1;
      for (size_t k = 2; k <= points; ++k) {
        const auto degree = static_cast<long double>(k);
        const long double next = ((2 * degree - 1) * x * value - (degree - 1) * before) / degree;
        before = value;
        value = next;
      }
      slope = n * (before - x * value) / (1 - x * x);
      x -= value / slope;
    }
    const size_t mirrored = points - 1 - i;
    out.t[i] = out.rest[mirrored] = double((1 - x) / 2);
    out.t[mirrored] = out.rest[i] = double((1 + x) / 2);
    out.weight[i] = out.weight[mirrored] = double(1 / ((1 - x * x) * slope * slope));
  }
  return out;
}

// How an edge lies to the row: taken, not taken, or below an edge of its feature that is not taken.
enum Way : uint8_t { kTaken, kMissed, kAside };
constexpr size_t kWays = 3;

struct Edge {
  Points factor[kWays];  // f_e / f_a
  Points part[kWays];    // what G_e is multiplied by, and weighed
  Points product;        // of the factors from the root to here, and of a leaf's value; then G_e
  double z;
  Way way;
};
constexpr int32_t kRoot = 0;  // the edge into the root, which every row takes; it is above the first edge of a feature

struct Split {
  int32_t parent;    // the edge to it; from it, edges 2s + 1 and 2s + 2 lead on
  int32_t above;     // the last edge above that has its feature
  int32_t features;  // on the way from the root, with its own
};

// A tree, ready to explain rows.
struct Plan {
  const Ranks::Step* steps;
  const double* leaves;
  size_t points;  // that an exact rule has
  std::vector<Split> splits;
  std::vector<Edge> edges;
};

[[noreturn]] void refuse(size_t tree, const std::string& what) {
  throw std::invalid_argument("tree " + std::to_string(tree) + " of the model " + what);
}

// Throws unless the covers of a tree can be divided by. Mapped ones may be anything.
void check_covers(const Ranks& ranks, size_t number) {
  const Ranks::Tree& tree = ranks.trees[number];
  const auto splits = ranks.step_cover.subspan(tree.step, tree.leaves - 1);
  const auto leaves = ranks.leaf_cover.subspan(tree.leaf, tree.leaves);
  const bool is_right = std::all_of(splits.begin(), splits.end(), [](double it) { return it > 0 && it < INFINITY; }) &&
                        std::all_of(leaves.begin(), leaves.end(), [](double it) { return it >= 0 && it < INFINITY; });
  if (!is_right && !splits.empty()) {
    refuse(number, "says nothing of how many rows came by its splits and leaves, so it cannot be explained; a model "
                   "saved with its counts is right (LightGBM: internal_count and leaf_count)");
  }
}

// What is expected of a row of which nothing is known.
double expected(const Ranks& ranks, const Ranks::Tree& tree) {
  if (tree.leaves == 1) return ranks.leaves[tree.leaf];
  double sum = 0;
  for (size_t leaf = tree.leaf; leaf < tree.leaf + tree.leaves; ++leaf) {
    sum += ranks.leaf_cover[leaf] / ranks.step_cover[tree.step] * ranks.leaves[leaf];
  }
  return sum;
}

// Walks the tree, depth first, and fills what depends on no points. Not by recursion: a tree may be one long branch. A
// split of two parents, which only damage makes, would be walked as often as there are ways to it: it is refused.
//   last [width]   kRoot, and so it is left: the last edge above that has the feature
void fill_plan(const Ranks& ranks, size_t number, std::vector<int32_t>& last, Plan& plan) {
  const Ranks::Tree& tree = ranks.trees[number];
  plan.steps = ranks.steps.data() + tree.step;
  plan.leaves = ranks.leaves.data() + tree.leaf;
  plan.splits.assign(tree.leaves - 1, {kRoot, kRoot, 0});
  plan.edges.resize(plan.splits.size() * 2 + 1);
  plan.edges[kRoot].z = 1.0;
  int32_t features = 0;
  for (int32_t at = 0, side = 0;;) {
    const Ranks::Step& step = plan.steps[at];
    Split& split = plan.splits[size_t(at)];
    int32_t& latest = last[size_t(ranks.feature[step.column])];
    if (side == 0) {
      split.above = latest;
      split.features = (at == 0 ? 0 : plan.splits[size_t(split.parent - 1) / 2].features) + (latest == kRoot);
      features = std::max(features, split.features);
    } else if (side == 2) {
      latest = split.above;
      if (at == 0) break;
      side = (split.parent - 1) % 2 + 1;
      at = (split.parent - 1) / 2;
      continue;
    }
    const int32_t child = step.next[side];
    latest = at * 2 + 1 + side;
    const double cover = child < 0 ? ranks.leaf_cover[tree.leaf + size_t(~child)]
                                   : ranks.step_cover[tree.step + size_t(child)];
    plan.edges[size_t(latest)].z =
        plan.edges[size_t(split.above)].z * (cover / ranks.step_cover[tree.step + size_t(at)]);
    if (child < 0) {
      ++side;
      continue;
    }
    if (plan.splits[size_t(child)].parent != kRoot) refuse(number, "is damaged: a split has two parents");
    plan.splits[size_t(child)].parent = latest;
    at = child;
    side = 0;
  }
  const auto needed = size_t(features + 1) / 2;
  plan.points = (needed + kPoints - 1) / kPoints * kPoints;
}

// Fills what depends on the points from `begin` on, but on no row.
void fill_tables(const Rule& rule, size_t begin, Plan& plan) {
  Points t, rest, weight;
  for (size_t q = 0; q < kPoints; ++q) {
    t[q] = rule.t[begin + q];
    rest[q] = rule.rest[begin + q];
    weight[q] = rule.weight[begin + q];
  }
  const Points missed = -weight / rest;
  plan.edges[kRoot].way = kTaken;
  plan.edges[kRoot].product = Points{} + 1.0;
  for (size_t i = 0; i < plan.splits.size(); ++i) {
    const double z_above = plan.edges[size_t(plan.splits[i].above)].z;
    const Points inverse_above = 1.0 / (z_above * rest + t);
    for (size_t it = i * 2 + 1; it <= i * 2 + 2; ++it) {
      Edge& edge = plan.edges[it];
      const Points f = edge.z * rest + t;
      edge.factor[kTaken] = f * inverse_above;
      edge.factor[kMissed] = edge.z * rest * inverse_above;
      edge.factor[kAside] = Points{} + edge.z / z_above;
      edge.part[kTaken] = weight * (z_above - edge.z) / f * inverse_above;
      edge.part[kMissed] = missed * inverse_above;
      edge.part[kAside] = Points{};
    }
  }
}

// Adds what these points give to a row's contributions `out` [width].
//   feature [columns], row [columns]
void add_row(Plan& plan, const int32_t* feature, const uint8_t* row, double* out) {
  Edge* edges = plan.edges.data();
  for (size_t i = 0; i < plan.splits.size(); ++i) {  // parents come before their children
    const Ranks::Step& step = plan.steps[i];
    const bool goes_right = int8_t(row[step.column] & step.mask) > step.rank;
    const bool is_aside = edges[plan.splits[i].above].way != kTaken;
    const Points down = edges[plan.splits[i].parent].product;
    for (size_t side = 0; side < 2; ++side) {
      Edge& edge = edges[i * 2 + 1 + side];
      const int32_t child = step.next[side];
      edge.way = is_aside ? kAside : goes_right == (side == 1) ? kTaken : kMissed;
      edge.product = down * edge.factor[edge.way] * (child < 0 ? plan.leaves[~child] : 1.0);
    }
  }
  for (size_t i = plan.splits.size(); i-- > 0;) {
    const Edge &left = edges[i * 2 + 1], &right = edges[i * 2 + 2];
    const Points sum = left.product * left.part[left.way] + right.product * right.part[right.way];
    edges[plan.splits[i].parent].product = left.product + right.product;
    out[feature[plan.steps[i].column]] += (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  edges[kRoot].product = Points{} + 1.0;
}

}  // namespace

void forest_explain(const Ranks& ranks, const Rows& rows, double* out) {
  const auto classes = static_cast<size_t>(ranks.classes), line = static_cast<size_t>(ranks.width) + 1;
  std::vector<double> nothing_known(ranks.base.begin(), ranks.base.end());
  for (size_t tree = 0; tree < ranks.trees.size(); ++tree) {
    check_covers(ranks, tree);
    nothing_known[tree % classes] += expected(ranks, ranks.trees[tree]);
  }
  for (size_t i = 0; i < size_t(rows.count) * classes; ++i) {
    std::fill_n(out + i * line, line - 1, 0.0);
    out[i * line + line - 1] = nothing_known[i % classes];
  }
  // Trees are outside and rows inside: what depends on no row is worked out once for a block of them.
  const auto block = static_cast<ptrdiff_t>(std::min<std::int64_t>(kBlockRows, rows.count));
  std::vector<uint8_t> bytes(size_t(block) * ranks.columns);
  std::vector<int32_t> last(size_t(ranks.width), kRoot);
  std::map<size_t, Rule> rules;
  Plan plan;
  for (ptrdiff_t begin = 0; begin < rows.count; begin += block) {
    const ptrdiff_t count = std::min<ptrdiff_t>(block, rows.count - begin);
    for (ptrdiff_t i = 0; i < count; ++i) fill_row(ranks, rows, begin + i, bytes.data() + size_t(i) * ranks.columns);
    for (size_t tree = 0; tree < ranks.trees.size(); ++tree) {
      if (ranks.trees[tree].leaves == 1) continue;
      fill_plan(ranks, tree, last, plan);
      const auto [rule, is_new] = rules.try_emplace(plan.points);
      if (is_new) rule->second = rule_of(plan.points);
      for (size_t points = 0; points < plan.points; points += kPoints) {
        fill_tables(rule->second, points, plan);
        for (ptrdiff_t i = 0; i < count; ++i) {
          double* to = out + (size_t(begin + i) * classes + tree % classes) * line;
          add_row(plan, ranks.feature.data(), bytes.data() + size_t(i) * ranks.columns, to);
        }
      }
    }
  }
}

}  // namespace pairec
