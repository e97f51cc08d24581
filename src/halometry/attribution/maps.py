"""Attribution maps of images by captum's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from halometry.extras import import_optional
from halometry.simulation.render import convolve_gaussian

Method = Literal["integrated_gradients", "saliency", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
INTEGRATION_STEPS = 24  # of integrated gradients
GRADIENT_BATCH_SIZE = 8
OCCLUSION_BATCH_SIZE = 64
PATCH_FRACTION = 1 / 25  # side of an occluded patch, over the side of the image
BLUR_FRACTION = 1 / 30  # width of the blur that removes fine structure, over the side
MIN_PROBABILITY = 1e-30  # keeps logarithms finite


def attribution_maps(
    predict_fn: Callable[[Tensor], Tensor], images: Tensor, method: Method
) -> Tensor:
    """Compute how much each pixel contributes to the prediction for its image.

    The explained score is the log odds of the most probable class, or the mass. The baseline,
    which is the start of the integral and fills occluded patches, is the image blurred by a
    thirtieth of its side. The maps therefore show the contribution of the fine structure.

    Args:
        predict_fn: raw images (B, c, H, W) to probabilities (B, K) or masses (B,),
            differentiable.
        images: raw (B, c, H, W).
        method: `integrated_gradients` (Sundararajan et al. 2017,
            https://arxiv.org/abs/1703.01365), whose sum is the difference of the scores of image
            and baseline; `saliency`, the absolute gradient (Simonyan et al. 2014,
            https://arxiv.org/abs/1312.6034); `occlusion`, the decrease of the score if a patch is
            blurred (Zeiler & Fergus 2014, https://arxiv.org/abs/1311.2901).

    Returns:
        Maps (B, H, W), summed over channels.

    Raises:
        UnavailableError: captum is not installed.
    """
    captum = import_captum()
    images = images.float()
    with torch.no_grad():
        predictions = predict_fn(images)
    target = predictions.argmax(dim=1) if predictions.ndim == 2 else None

    def score(raw: Tensor) -> Tensor:
        predictions = predict_fn(raw)
        return predictions if predictions.ndim == 1 else log_odds(predictions)

    side = images.shape[-1]
    if method == "saliency":
        maps = captum.Saliency(score).attribute(images.clone().requires_grad_(), target)
    else:
        channels = images.flatten(0, 1)[:, None]
        baselines = convolve_gaussian(channels, side * BLUR_FRACTION).view(images.shape)
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
            with torch.no_grad():
                maps = captum.Occlusion(score).attribute(
                    images,
                    (images.shape[1], patch, patch),
                    (images.shape[1], patch // 2, patch // 2),
                    baselines,
                    target,
                    perturbations_per_eval=max(1, OCCLUSION_BATCH_SIZE // len(images)),
                )
    # The gradient of the square-root stretch is infinite at the darkest pixel.
    summed: Tensor = maps.detach().nan_to_num(0.0, 0.0, 0.0).sum(dim=1)
    return summed


def log_odds(probabilities: Tensor) -> Tensor:
    """Compute the log odds of each class (B, K) against all other classes.

    Example:
        >>> log_odds(torch.tensor([[0.5, 0.25, 0.25]]))[0, 0]
        tensor(0.)
    """
    # Not 1 - p, which has no significant digits if p is close to 1.
    others = probabilities @ (1 - torch.eye(probabilities.shape[1]).to(probabilities))
    log_others = others.clamp_min(MIN_PROBABILITY).log()
    return probabilities.clamp_min(MIN_PROBABILITY).log() - log_others


def import_captum() -> Any:
    """Import the module `captum.attr`.

    Raises:
        UnavailableError: captum is not installed.
    """
    return import_optional("captum.attr", extra="attribution")
