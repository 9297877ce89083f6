// Parts a row's raw score among its features: the Shapley values of the forest, as TreeSHAP defines them.
#pragma once
#include "forest_columns.hpp"

namespace pairec {

// Writes, for row i and class k, width + 1 numbers from out + (i * classes + k) * (width + 1) on: what each feature
// adds, and last what is expected of a row of which nothing is known. Together they are the raw score, but for
// rounding; a forest that rounds its sums is explained as if it did not.
//
// A split of a feature that is not known sends a row both ways, in the proportion of the covers. So every tree of two
// leaves or more has to say how many rows came by: throws std::invalid_argument for covers that are not positive (of a
// leaf: that are negative), and for damaged trees. Allocates in proportion to the largest tree; nothing for a row.
//
// Source: Lundberg, Erion, Lee, "Consistent individualized feature attribution for tree ensembles" (2018), and
// LightGBM's Booster.predict(pred_contrib=True).
void forest_explain(const Ranks& ranks, const Rows& rows, double* out);

}  // namespace pairec
