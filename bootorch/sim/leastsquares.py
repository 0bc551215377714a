"""Least squares with weights that are not negative, for a handful of columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations


def non_negative(rows: Sequence[tuple[float, ...]], values: Sequence[float]) -> tuple[float, ...]:
    """Weights of the best of all subsets of columns, by twice the Bayesian information criterion's price of a column
    (Schwarz 1978): with few rows, a column has to explain much to count at all."""
    width, count = len(rows[0]), len(rows)
    noise = 1e-12 * (1e-300 + sum(value * value for value in values))  # an exact fit needs no more columns
    price = 2 * math.log(max(2, count))
    best: tuple[float, tuple[float, ...]] = (math.inf, (0.0,) * width)
    for size in range(1, width + 1):
        for columns in combinations(range(width), size):
            solved = _solve(rows, values, columns)
            if solved is None or min(solved) < 0:
                continue
            weights = [0.0] * width
            for column, weight in zip(columns, solved, strict=True):
                weights[column] = weight
            error = sum(
                (sum(w * x for w, x in zip(weights, row, strict=True)) - y) ** 2
                for row, y in zip(rows, values, strict=True)
            )
            cost = count * math.log(error + noise) + price * size
            if cost < best[0] - 1e-9:
                best = (cost, tuple(weights))
    return best[1]


def _solve(rows: Sequence[tuple[float, ...]], values: Sequence[float], columns: Sequence[int]) -> list[float] | None:
    """Normal equations of these columns by elimination; None where they do not determine the weights."""
    size = len(columns)
    matrix = [[sum(row[a] * row[b] for row in rows) for b in columns] for a in columns]
    right = [sum(row[a] * y for row, y in zip(rows, values, strict=True)) for a in columns]
    for pivot in range(size):
        row = max(range(pivot, size), key=lambda r: abs(matrix[r][pivot]))
        if abs(matrix[row][pivot]) < 1e-12:
            return None
        matrix[pivot], matrix[row] = matrix[row], matrix[pivot]
        right[pivot], right[row] = right[row], right[pivot]
        for below in range(pivot + 1, size):
            factor = matrix[below][pivot] / matrix[pivot][pivot]
            matrix[below] = [x - factor * y for x, y in zip(matrix[below], matrix[pivot], strict=True)]
            right[below] -= factor * right[pivot]
    solved = [0.0] * size
    for pivot in reversed(range(size)):
        known = sum(matrix[pivot][k] * solved[k] for k in range(pivot + 1, size))
        solved[pivot] = (right[pivot] - known) / matrix[pivot][pivot]
    return solved
