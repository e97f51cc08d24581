"""Backbones: networks of timm and d4net, by name.

timm is slow to import, so it is imported only where one of its networks is needed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from halometry import hub
from halometry.errors import UnavailableError, UsageError, did_you_mean
from halometry.models.d4net import DEEP_DEPTHS, DEPTHS, D4Net

TIMM_NAMES = {
    "mobilenetv3_small": "mobilenetv3_small_100",
    "resnet18": "resnet18",
    "efficientnet_b5": "efficientnet_b5",
}
D4NET_DEPTHS = {"d4net": DEPTHS, "d4net_deep": DEEP_DEPTHS}
# Shallower backbone that a deeper one can start from; the further blocks start as the identity.
SHALLOWER_BACKBONES = {"d4net_deep": "d4net"}
PLAIN_NAMES = (*TIMM_NAMES, *D4NET_DEPTHS)

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm, in repositories of the Hub


@dataclass(frozen=True)
class BackboneInfo:
    """Properties of a backbone.

    Attributes:
        name: its name in halometry.
        timm_name: its name in timm; empty if timm does not have it.
        n_parameters: number of trainable parameters for one channel, without the head.
        n_features: number of features F.
        stride: side of the input over the side of the last feature map.
    """

    name: str
    timm_name: str
    n_parameters: int
    n_features: int
    stride: int


def timm_name(name: str) -> str:
    """Return the name of a backbone in timm; names of d4net stay as they are.

    Raises:
        UsageError: unknown name.
    """
    if name in PLAIN_NAMES:
        return TIMM_NAMES.get(name, name)
    import timm

    if not timm.is_model(name):
        otherwise = f"known: {', '.join(PLAIN_NAMES)}, and every name in timm.list_models()"
        hint = did_you_mean(name, [*PLAIN_NAMES, *timm.list_models()], otherwise)
        raise UsageError(f"unknown backbone '{name}', {hint}")
    return name


StemInit = Literal["summed", "random"]


def create_backbone(
    name: str,
    channels: int,
    *,
    pretrained: bool = False,
    stem_init: StemInit = "summed",
) -> nn.Module:
    """Create a backbone, which maps images to features.

    Args:
        name: a plain name (`PLAIN_NAMES`) or any model name of timm.
        channels: channels of the input.
        pretrained: start from ImageNet weights instead of random ones.
        stem_init: initial weights of a pretrained network's first convolution where the input has
            one channel: `summed` adds the three color filters, which gives the features of three
            equal channels; `random` draws new ones.

    Returns:
        A module from (B, channels, H, W) to (B, F); F is `feature_width`.

    Raises:
        UsageError: unknown name, or a network that cannot be created for such images.
        UnavailableError: the weights are not on this machine and cannot be fetched.
    """
    full_name = timm_name(name)
    if name in D4NET_DEPTHS and not pretrained:
        return D4Net(channels, depths=D4NET_DEPTHS[name])
    if not pretrained:
        return _create(full_name, in_chans=channels, num_classes=0)
    net = _pretrained(full_name, channels)
    if channels != 3 and stem_init == "random":
        config: Any = net.pretrained_cfg
        first: Any = net.get_submodule(config["first_conv"])
        first.reset_parameters()
    return net


def _create(full_name: str, **options: Any) -> nn.Module:
    import timm

    try:
        net: nn.Module = timm.create_model(full_name, **options)
    except (AssertionError, TypeError) as error:
        raise UsageError(f"backbone '{full_name}' cannot be created: {error}") from error
    return net


def check_pretrained(name: str) -> None:
    """Check that timm has ImageNet weights of a backbone.

    Raises:
        UsageError: unknown name.
        UnavailableError: timm has none.
    """
    import timm

    if not timm.is_model_pretrained(timm_name(name)):
        raise UnavailableError(
            f"timm has no ImageNet weights of '{name}'; start from random weights with"
            " --no-pretrained"
        )


def _pretrained(full_name: str, channels: int) -> nn.Module:
    import timm

    check_pretrained(full_name)
    config = timm.get_pretrained_cfg(full_name)
    overlay = {}
    level = logging.getLogger("timm").level
    logging.getLogger("timm").setLevel(logging.ERROR)
    try:
        if config.hf_hub_id and not config.custom_load:
            if cached := hub.find_cached_file(config.hf_hub_id, WEIGHT_FILES):
                overlay["file"] = cached
            else:
                hub.check_connection()  # without one, downloads are retried for half a minute
        return _create(
            full_name,
            in_chans=channels,
            num_classes=0,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
        )
    except (OSError, RuntimeError, UnavailableError) as error:
        raise UnavailableError(
            f"ImageNet weights of '{full_name}' are not on this machine and could not be fetched"
            f" from {hub.HOST}; connect once, or start from random weights with --no-pretrained"
        ) from error
    finally:
        logging.getLogger("timm").setLevel(level)


def feature_width(backbone: nn.Module) -> int:
    """Number of features F of a backbone."""
    width: Any = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(width)


def pretraining_note(name: str, channels: int, stem_init: StemInit) -> str:
    """Describe the ImageNet weights of a backbone and the initial first convolution."""
    import timm

    tag = getattr(timm.get_pretrained_cfg(timm_name(name)), "tag", None)
    weights = f"ImageNet weights ({tag})" if tag else "ImageNet weights"
    if channels == 3:
        return f"{weights} as they are, a gray image repeated to three channels"
    if stem_init == "random":
        return f"{weights}, but a random first convolution for the one channel"
    return f"{weights}, the first convolution's three color filters summed into one"


def list_backbones(names: list[str] | None = None) -> list[BackboneInfo]:
    """List properties of backbones.

    Args:
        names: names of backbones; by default those with a name in halometry (`PLAIN_NAMES`).
    """
    infos = []
    for name in names or PLAIN_NAMES:
        net = create_backbone(name, channels=1)
        reductions = [info["reduction"] for info in getattr(net, "feature_info", None) or []]
        infos.append(
            BackboneInfo(
                name=name,
                timm_name="" if name in D4NET_DEPTHS else timm_name(name),
                n_parameters=sum(p.numel() for p in net.parameters()),
                n_features=feature_width(net),
                stride=max(reductions, default=1),
            )
        )
    return infos
