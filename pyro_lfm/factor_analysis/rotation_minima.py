"""The last steps to a minimum of a rotation criterion, where its gradient vanishes to rounding: for ``rotate``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyro_lfm.factor_analysis.matrices import Matrix

# A root of the gradient counts if the criterion there exceeds that of the start by no more than rounding.
_ROUNDING = 1e-9


class Orthogonal:
    """Orthomax, −¼ Σ L² (L² − weight · column means of L²), near a rotation ``start``: L = A T with T orthogonal.

    >>> problem = Orthogonal(np.array([[0.8, 0.0], [0.0, 0.6]]), 1.0, np.eye(2))
    >>> round(problem.value(np.eye(2)), 4), problem.slope(np.eye(2))
    (-0.0674, 0.0)
    """

    def __init__(self, loadings: Matrix, weight: float, start: Matrix):
        self.given, self.weight, self.start = loadings, weight, start
        self.upper = np.triu_indices(len(start), 1)

    def transformation(self, turn: Matrix) -> Matrix:
        return turn

    def value(self, turn: Matrix) -> float:
        squares = (self.given @ turn) ** 2
        return float((squares * (self.weight * squares.mean(0) - squares)).sum() / 4)

    def slope(self, turn: Matrix) -> float:
        """The norm of the gradient along rotations."""
        return float(np.linalg.norm(self._skew(turn)))

    def polished(self) -> Matrix:
        step = _root(lambda step: self._skew(self._turned(step)), np.zeros(len(self.upper[0])))
        return _better(self, self._turned(step))

    def _turned(self, step: Matrix) -> Matrix:
        skew = np.zeros_like(self.start)
        skew[self.upper] = step
        skew = (skew - skew.T) / 2
        # Cayley's map: orthogonal for every skew matrix.
        eye = np.eye(len(skew))
        turned: Matrix = self.start @ np.linalg.solve(eye - skew / 2, eye + skew / 2)
        return turned

    def _skew(self, turn: Matrix) -> Matrix:
        rotated = self.given @ turn
        squares = rotated**2
        slope = turn.T @ self.given.T @ (rotated * (self.weight * squares.mean(0) - squares))
        above: Matrix = (slope - slope.T)[self.upper]
        return above


class Oblique:
    """Oblimin, ¼ Σ_{j≠k} L_j² (L_k² − weight · mean), near a start: L = A T⁻ᵀ with columns of T of length one.

    >>> Oblique(np.array([[0.8, 0.0], [0.0, 0.6]]), 0.0, np.eye(2)).value(np.eye(2))
    0.0
    """

    def __init__(self, loadings: Matrix, weight: float, start: Matrix):
        self.given, self.weight, self.start = loadings, weight, start

    def transformation(self, turn: Matrix) -> Matrix:
        return np.asarray(np.linalg.inv(turn).T)

    def value(self, turn: Matrix) -> float:
        squares, others = self._squares(self.given @ self.transformation(turn))
        return float((squares * others).sum() / 4)

    def slope(self, turn: Matrix) -> float:
        """The norm of the gradient along matrices with columns of length one."""
        return float(np.linalg.norm(self._gradient(turn)))

    def polished(self) -> Matrix:
        shape = self.start.shape
        flat = _root(lambda flat: self._residual(flat.reshape(shape)).ravel(), self.start.ravel())
        turn = flat.reshape(shape)
        return _better(self, turn / np.linalg.norm(turn, axis=0))

    def _squares(self, rotated: Matrix) -> tuple[Matrix, Matrix]:
        """L² and, for each factor, the sum of the shifted squares of the others."""
        squares = rotated**2
        shifted = squares - self.weight * squares.mean(0)
        return squares, shifted.sum(1, keepdims=True) - shifted

    def _residual(self, turn: Matrix) -> Matrix:
        """Zero where the gradient is zero and the columns have length one."""
        return self._gradient(turn) + turn * ((turn**2).sum(0) - 1)

    def _gradient(self, turn: Matrix) -> Matrix:
        back = np.linalg.inv(turn)
        rotated = self.given @ back.T
        slope = -(rotated.T @ (rotated * self._squares(rotated)[1]) @ back).T
        projected: Matrix = slope - turn * (turn * slope).sum(0)
        return projected


def _better(problem: Orthogonal | Oblique, turn: Matrix) -> Matrix:
    """The root of the gradient, or the start if that is no minimum."""
    start = problem.start
    if problem.slope(turn) > problem.slope(start) or problem.value(turn) > problem.value(start) + _ROUNDING:
        return start
    return turn


def _root(residual: Callable[[Matrix], Matrix], start: Matrix) -> Matrix:
    from scipy.optimize import root

    try:
        ends: Matrix = root(residual, start, tol=1e-14).x
    except np.linalg.LinAlgError:
        return start
    return ends if bool(np.isfinite(ends).all()) else start
