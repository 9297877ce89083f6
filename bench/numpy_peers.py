"""DPP and SSD as somebody who knows NumPy well would write them: no kernel formed, one matrix-vector product a step."""

from __future__ import annotations

import numpy as np


def dpp_numpy(table, rows, relevance, *, alpha, size, window):
    """Greedy choice with an incremental Cholesky factor. `table` holds vectors of length 1."""
    vectors = table[rows]
    quality = np.exp(alpha * relevance)
    chosen: list[int] = []
    while len(chosen) < size:
        wanted = min(window, size - len(chosen))
        left = quality * quality
        left[chosen] = -np.inf
        factor = np.empty((wanted, len(rows)))
        for link in range(wanted):
            best = int(left.argmax())
            chosen.append(best)
            if left[best] < 1e-10 or link + 1 == wanted:
                break
            row = quality * (quality[best] * 0.5) * (vectors @ vectors[best] + 1.0)
            row -= factor[:link, best] @ factor[:link]
            row /= np.sqrt(left[best])
            factor[link] = row
            left -= row * row
            left[best] = -np.inf
    return chosen


def ssd_numpy(table, rows, quality, *, gamma, size, window):
    """The sliding window with every vector projected at once. `table` holds vectors of length 1."""
    vectors = np.empty((len(rows), table.shape[1] + 1), np.float32)
    vectors[:, :-1] = table[rows]
    vectors[:, -1] = 1.0
    worth = quality.copy()
    chosen, kept = [int(worth.argmax())], []
    volume = gamma * float(np.linalg.norm(vectors[chosen[0]]))
    while len(chosen) < size:
        worth[chosen[-1]] = -np.inf
        direction = vectors[chosen[-1]].copy()
        if len(kept) == window:
            vectors += np.outer(*kept.pop(0))
        projection = vectors @ direction / (direction @ direction)
        vectors -= np.outer(projection, direction)
        kept.append((projection, direction))
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        chosen.append(int((worth + volume * length).argmax()))
        volume *= float(length[chosen[-1]])
    return chosen
