"""Maps of the pixels that an answer rests on, by captum's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from halometry.errors import UnavailableError
from halometry.simulation.render import convolve_gaussian

Method = Literal["integrated_gradients", "saliency", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
INTEGRATION_STEPS = 24  # of the integral
GRADIENT_BATCH_SIZE = 8  # images that gradients are taken of together
PATCH_FRACTION = 1 / 25  # side of what is occluded over that of the image
BLUR_FRACTION = 1 / 30  # width of what takes fine structure away, over the side of the image
MIN_PROBABILITY = 1e-30  # probability, so that its logarithm is finite


def attribution_maps(predict: Callable[[Tensor], Tensor], images: Tensor, method: Method) -> Tensor:
    """By how much each pixel speaks for the answer that is given.

    The score explained is the log odds of the class with the highest probability, or the mass.
    What is asked is what the image's fine structure does: the other end of the integral, and what
    fills an occluded patch, is the image blurred by a thirtieth of its side.

    Args:
        answer: raw images (B, c, H, W) to probabilities (B, K) or masses (B,), differentiable.
        images: raw (B, c, H, W).
        method: `integrated_gradients` (Sundararajan et al. 2017,
            https://arxiv.org/abs/1703.01365), which adds up to the difference of the scores of both
            ends; `saliency`, the gradient's modulus (Simonyan et al. 2014,
            https://arxiv.org/abs/1312.6034); `occlusion`, what the score loses where a patch is
            blurred (Zeiler & Fergus 2014, https://arxiv.org/abs/1311.2901).

    Returns:
        (B, H, W), summed over channels.

    Raises:
        UnavailableError: captum is not installed.
    """
    captum = import_captum()
    images = images.float()
    with torch.no_grad():
        answers = predict(images)
    target = answers.argmax(dim=1) if answers.ndim == 2 else None

    def score(raw: Tensor) -> Tensor:
        answers = predict(raw)
        return answers if answers.ndim == 1 else log_odds(answers)

    side = images.shape[-1]
    if method == "saliency":
        maps = captum.Saliency(score).attribute(images.clone().requires_grad_(), target)
    else:
        baselines = convolve_gaussian(images.flatten(0, 1)[:, None], side * BLUR_FRACTION).view(
            images.shape
        )
        if method == "integrated_gradients":
            maps = captum.IntegratedGradients(score).attribute(
                images,
                baselines,
                target,
                n_steps=INTEGRATION_STEPS,
                internal_batch_size=GRADIENT_BATCH_SIZE,
            )
        else:
            patch = max(2, round(side * PATCH_FRACTION))
            window = (images.shape[1], patch, patch)
            with torch.no_grad():
                maps = captum.Occlusion(score).attribute(
                    images,
                    window,
                    (images.shape[1], patch // 2, patch // 2),
                    baselines,
                    target,
                    perturbations_per_eval=max(1, 64 // len(images)),
                )
    # The root of the darkest pixel, which is scaled to nothing, has no slope.
    summed: Tensor = maps.detach().nan_to_num(0.0, 0.0, 0.0).sum(dim=1)
    return summed


def log_odds(probabilities: Tensor) -> Tensor:
    """Logarithm of the odds of each class (B, K) against all others together.

    Example:
        >>> log_odds(torch.tensor([[0.5, 0.25, 0.25]]))[0, 0]
        tensor(0.)
    """
    # The others' sum, not 1 - p, which has no digits left where p is almost 1.
    others = probabilities @ (1 - torch.eye(probabilities.shape[1]).to(probabilities))
    return probabilities.clamp_min(MIN_PROBABILITY).log() - others.clamp_min(MIN_PROBABILITY).log()


def import_captum() -> Any:
    """The module of captum's methods.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        from captum import attr
    except ImportError as error:
        raise UnavailableError(
            "attribution needs captum: pip install 'halometry[attribution]'"
        ) from error
    return attr
