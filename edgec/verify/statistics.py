"""Confidence intervals for what artifacts lose against the float model, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from edgec.model.spec import Array

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A two-sided 95 % confidence interval, and how it was computed."""

    low: float
    high: float
    method: str


def wilson(successes: int, trials: int) -> Interval:
    """Score interval of a proportion.

    Wilson, E. B. (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is not a proportion")
    share, z2 = successes / trials, _Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return Interval(low, high, "95 % Wilson score interval")


def paired_proportions(lost: int, won: int, trials: int) -> Interval:
    """Interval of the difference of two paired proportions, ``(lost - won) / trials``.

    The Wald interval after half an observation is added to each of the four cells: Agresti, A. and Min, Y. (2005),
    "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24, 729-740.

    Args:
        lost: samples that only the first is right on.
        won: samples that only the second is right on.
        trials: all samples.
    """
    if lost < 0 or won < 0 or lost + won > trials or trials == 0:
        raise ValueError(f"{lost} lost and {won} won of {trials} is not a comparison")
    total = trials + 2
    difference, discordant = lost - won, lost + won + 1
    half = _Z95 * math.sqrt(discordant - difference**2 / total) / total
    middle = difference / total
    return Interval(
        max(-1.0, middle - half), min(1.0, middle + half), "95 % Agresti-Min interval for paired proportions"
    )


def paired_means(differences: Array) -> Interval | None:
    """Student's t interval of the mean of paired differences; None for fewer than two.

    Student (1908), "The probable error of a mean", Biometrika 6, 1-25.
    """
    count = len(differences)
    if count < 2:
        return None
    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    half = t_quantile_975(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Interval(mean - half, mean + half, "95 % t interval of the paired differences")


def t_quantile_975(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution, to 1e-5.

    From 40 degrees of freedom on the Cornish-Fisher expansion: Abramowitz, M. and Stegun, I. (1964), "Handbook of
    Mathematical Functions", 26.7.5. Below, by bisection of the integral of the density after x = sqrt(n) tan(a).
    """
    if degrees < 1:
        raise ValueError("degrees of freedom must be at least 1")
    if degrees >= 40:
        z, n = _Z95, float(degrees)
        return (
            z
            + (z**3 + z) / (4 * n)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        )
    points, weights = np.polynomial.legendre.leggauss(64)  # type: ignore[no-untyped-call]
    norm = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        mass = norm * angle / 2 * float(np.sum(weights * np.cos(angle / 2 * (points + 1)) ** (degrees - 1)))
        low, high = (angle, high) if mass < 0.475 else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)
