"""What the noise of an image allows: how well the best of all observers can do.

An observer that knows both expectations compares their likelihoods, which no other test can better
(Neyman & Pearson 1933). Where the lens has to be fitted too, only that part of the difference
counts which no change of the lens could make (Kay 1998, Fundamentals of Statistical Signal
Processing II, ch. 4 and 6).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr, ndtri


def expected_delta_2lnl(
    smooth: Tensor, perturbed: Tensor, gaussian_variance: Tensor | float = 0.0
) -> Tensor:
    """By how much 2 ln L is expected to grow when the true expectation takes the other's place.

    2 sum [m ln(m / s) - (m - s)] over pixels, near sum (m - s)^2 / s where the two are close. With
    Gaussian noise beside the Poisson noise its variance is added to both (Snyder, Hammoud & White
    1993, JOSA A 10, 1014).

    Args:
        smooth, lumpy: expected counts (..., N) without and with what is looked for, above 0; the
            second is true.
        extra: variance of the Gaussian noise, counts squared, to broadcast against both.

    Returns:
        (...).

    Example:
        >>> gain = expected_gain(torch.tensor([100.0]), torch.tensor([110.0]))
        >>> print(f"{gain.item():.3f}")  # 10^2 / 100 to first order
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
    """How often the likelihood ratio of two known expectations tells that the second is true.

    The ratio is sum n ln(m / s) up to a constant; over thousands of pixels it is normal, with the
    mean and the variance of Poisson counts n under either.

    Args:
        smooth, lumpy: expected counts (..., N), above 0.
        false_positives: how often the first is taken for the second.
        extra: variance of the Gaussian noise, as in `expected_gain`.

    Returns:
        Probabilities (...).
    """
    s, m = smooth + gaussian_variance, perturbed + gaussian_variance
    log = torch.log(m / s)
    apart = ((m - s) * log).sum(dim=-1)
    under_s, under_m = (((n * log**2).sum(dim=-1)).sqrt() for n in (s, m))
    off = apart - normal_threshold(false_positives) * under_s
    same = under_m == 0
    found = ndtr(off / torch.where(same, 1.0, under_m))
    return torch.where(same, false_positives, found)


def normal_threshold(false_positives: float) -> float:
    """What a normal statistic of mean 0 and variance 1 exceeds that often.

    Example:
        >>> print(f"{threshold(0.01):.3f}")
        2.326
    """
    return -float(ndtri(torch.tensor(false_positives, dtype=torch.float64)))


def matched_filter_power(detectability: Tensor, threshold: float) -> Tensor:
    """How often a matched filter finds its signal: its output is normal of variance 1.

    Args:
        detectability: its mean where the signal is there, the root of the gain in 2 ln L.
        over: the output that has to be exceeded, as `threshold` gives it.

    Returns:
        Probabilities, in the shape of `detectability` (Kay 1998, eq. 4.14).

    Example:
        >>> print(detected(torch.tensor([0.0, 2.3263]), threshold(0.01)))
        tensor([0.0100, 0.5000])
    """
    return ndtr(detectability - threshold)


def max_filter_threshold(
    templates: Tensor, false_positives: float, draws: int = 20_000, seed: int = 0
) -> float:
    """What the largest output of many matched filters exceeds that often where there is nothing.

    Args:
        templates: what the filters look for (K, N), in units of the noise; their lengths do not
            matter, and those of none are left out.
        false_positives: how often.
        draws: of the noise, of which this is the quantile.
        seed: of these.

    Example:
        >>> print(f"{search_threshold(torch.eye(10), 0.1):.1f}")  # 10 Phi(-z) is about 0.1
        2.3
    """
    length = templates.norm(dim=-1, keepdim=True)
    unit = (templates / length)[length[:, 0] > 0]
    values, vectors = torch.linalg.eigh(unit @ unit.mT)
    root = vectors * values.clamp_min(0).sqrt()
    generator = torch.Generator(unit.device).manual_seed(seed)
    white = torch.randn(len(root), draws, generator=generator, dtype=unit.dtype, device=unit.device)
    return float((root @ white).amax(dim=0).quantile(1 - false_positives))


def variance_of_sum(responses: Tensor, prior: Tensor) -> Tensor:
    """How well the sum of several strengths is known from one image, at best by a linear estimate.

    With the information F = A A^T of the image and independent priors of variances S it is
    1^T (F + S^-1)^-1 1. If the priors are Gaussian this is the posterior's variance, and no
    estimate has a smaller mean squared error; for other priors of the same variance it is the
    smallest among estimates that are linear in the image (Kay 1993, Estimation Theory, ch. 12).

    Args:
        responses: of the image to each strength, in units of the noise (B, K, N), nuisance
            parameters taken out by `unexplained`.
        prior: variances of the strengths (B, K); 0 for one that is known.

    Returns:
        (B,), in the square of the strengths' unit.

    Example:
        >>> one = torch.tensor([[[2.0, 0.0]]])  # information 4, prior information 1
        >>> variance_of_sum(one, torch.tensor([[1.0]]))
        tensor([0.2000])
    """
    root = prior.sqrt()
    scaled = root[..., None] * responses
    whole = scaled @ scaled.mT + torch.eye(root.shape[-1]).to(root)
    return (root * torch.linalg.solve(whole, root)).sum(dim=-1)
