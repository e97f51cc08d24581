"""Ideal observers: the best possible detection of a known signal in the noise of an image.

An observer that knows both expected images compares their likelihoods. No other test has a higher
detection probability at the same false-positive rate (Neyman & Pearson 1933). If the lens is fitted
too, only the part of the difference counts that no change of the lens can reproduce (Kay 1998,
Fundamentals of Statistical Signal Processing II, ch. 4 and 6).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr, ndtri


def expected_delta_2lnl(
    smooth: Tensor, perturbed: Tensor, gaussian_variance: Tensor | float = 0.0
) -> Tensor:
    """Compute the expected difference in 2 ln L between the true and another expected image.

    2 sum [m ln(m / s) - (m - s)] over pixels, which is about sum (m - s)^2 / s if both are close.
    The variance of Gaussian noise beside the Poisson noise is added to both (Snyder, Hammoud &
    White 1993, JOSA A 10, 1014).

    Args:
        smooth: expected counts s without the signal (..., N), above 0.
        perturbed: expected counts m with the signal (..., N), above 0; these are true.
        gaussian_variance: of the Gaussian noise, counts squared; broadcast against both.

    Returns:
        (...).

    Example:
        >>> delta = expected_delta_2lnl(torch.tensor([100.0]), torch.tensor([110.0]))
        >>> print(f"{delta.item():.3f}")  # 10^2 / 100 to first order
        0.968
    """
    s, m = smooth + gaussian_variance, perturbed + gaussian_variance
    return 2 * (torch.xlogy(m, m / s) - (m - s)).sum(dim=-1)


def likelihood_ratio_power(
    smooth: Tensor,
    perturbed: Tensor,
    false_positives: float,
    gaussian_variance: Tensor | float = 0.0,
) -> Tensor:
    """Compute the detection probability of a likelihood-ratio test of two known images.

    The test statistic is sum n ln(m / s). Summed over thousands of pixels it is normal, with the
    mean and the variance of Poisson counts n of either image.

    Args:
        smooth, perturbed: expected counts s and m (..., N), above 0.
        false_positives: false-positive rate, the probability to take the first for the second.
        gaussian_variance: of the Gaussian noise, as in `expected_delta_2lnl`.

    Returns:
        Probabilities (...).
    """
    s, m = smooth + gaussian_variance, perturbed + gaussian_variance
    log = torch.log(m / s)
    separation = ((m - s) * log).sum(dim=-1)
    std_s, std_m = (((n * log**2).sum(dim=-1)).sqrt() for n in (s, m))
    margin = separation - normal_threshold(false_positives) * std_s
    is_equal = std_m == 0
    power = ndtr(margin / torch.where(is_equal, 1.0, std_m))
    return torch.where(is_equal, false_positives, power)


def normal_threshold(false_positives: float) -> float:
    """Value that a standard normal variable exceeds with a given probability.

    Example:
        >>> print(f"{normal_threshold(0.01):.3f}")
        2.326
    """
    return -float(ndtri(torch.tensor(false_positives, dtype=torch.float64)))


def matched_filter_power(detectability: Tensor, threshold: float) -> Tensor:
    """Compute the detection probability of a matched filter, whose output is normal of variance 1.

    Args:
        detectability: mean output if the signal is present, the root of the difference in 2 ln L.
        threshold: output above which the signal is detected, see `normal_threshold`.

    Returns:
        Probabilities, in the shape of `detectability` (Kay 1998, eq. 4.14).

    Example:
        >>> print(matched_filter_power(torch.tensor([0.0, 2.3263]), normal_threshold(0.01)))
        tensor([0.0100, 0.5000])
    """
    return ndtr(detectability - threshold)


def max_filter_threshold(
    templates: Tensor, false_positives: float, *, draws: int = 20_000, seed: int = 0
) -> float:
    """Threshold for the largest output of many matched filters, at a given false-positive rate.

    Args:
        templates: signals of the filters (K, N), in units of the noise. Their amplitudes do not
            matter; templates of zero are left out.
        false_positives: probability that the largest output exceeds the threshold in pure noise.
        draws: realizations of the noise.
        seed: of these.

    Example:
        >>> print(f"{max_filter_threshold(torch.eye(10), 0.1):.1f}")  # 10 Phi(-z) is about 0.1
        2.3
    """
    norm = templates.norm(dim=-1, keepdim=True)
    unit = (templates / norm)[norm[:, 0] > 0]
    values, vectors = torch.linalg.eigh(unit @ unit.mT)
    root = vectors * values.clamp_min(0).sqrt()
    generator = torch.Generator(unit.device).manual_seed(seed)
    white = torch.randn(len(root), draws, generator=generator, dtype=unit.dtype, device=unit.device)
    return float((root @ white).amax(dim=0).quantile(1 - false_positives))


def variance_of_sum(responses: Tensor, prior: Tensor) -> Tensor:
    """Compute the smallest variance of a linear estimate of a sum of amplitudes, from one image.

    With the Fisher information F = A A^T of the image and independent priors of variances S it is
    1^T (F + S^-1)^-1 1. For Gaussian priors this is the variance of the posterior, and no estimate
    has a smaller mean squared error. For other priors of the same variance it is the smallest of
    all estimates that are linear in the image (Kay 1993, Estimation Theory, ch. 12).

    Args:
        responses: of the image to each amplitude, in units of the noise (B, K, N), with nuisance
            parameters projected out by `project_out`.
        prior: variances of the amplitudes (B, K); 0 for a known amplitude.

    Returns:
        (B,), in the square of the amplitudes' unit.

    Example:
        >>> responses = torch.tensor([[[2.0, 0.0]]])  # information 4, prior information 1
        >>> variance_of_sum(responses, torch.tensor([[1.0]]))
        tensor([0.2000])
    """
    root = prior.sqrt()
    scaled = root[..., None] * responses
    information = scaled @ scaled.mT + torch.eye(root.shape[-1]).to(root)
    return (root * torch.linalg.solve(information, root)).sum(dim=-1)
