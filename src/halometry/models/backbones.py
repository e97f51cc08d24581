"""The networks that look at images: timm's by name, the published ones and ours by plain names.

timm, slow to import, is imported where one of its networks is asked for.
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
# What a deeper network can begin from: its further blocks begin as the identity.
SHALLOWER = {"d4net_deep": "d4net"}
PLAIN_NAMES = (*TIMM_NAMES, *D4NET_DEPTHS)

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm, in repositories of the Hub


@dataclass(frozen=True)
class BackboneInfo:
    """What there is to know of a backbone before it is trained.

    Attributes:
        name: the name it goes by here.
        timm_name: its name in timm, empty where timm has it not.
        parameters: trainable numbers of the one-channel backbone, head excluded.
        features: width of what it hands to the head.
        stride: side of the input in units of the last feature map's pixels.
    """

    name: str
    timm_name: str
    parameters: int
    features: int
    stride: int


def timm_name(name: str) -> str:
    """The name timm has for a backbone; ours keep theirs.

    Raises:
        UsageError: neither one of the plain names nor known to timm.
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
    pretrained: bool = False,
    stem_init: StemInit = "summed",
) -> nn.Module:
    """A backbone that maps images to features.

    Args:
        name: a plain name (`PLAIN_NAMES`) or any model name of timm.
        channels: of the input.
        pretrained: begin from ImageNet weights instead of random ones.
        stem_init: what becomes of a pretrained network's first convolution where the
            input has one channel: `summed` adds its three color filters, so that a gray image
            gives what its three equal copies would; `random` begins it anew.

    Returns:
        A module from (B, channels, H, W) to (B, F); `feature_width` tells F.

    Raises:
        UsageError: unknown name, or a network that cannot be made for such images.
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
        raise UsageError(f"backbone '{full_name}' cannot be made: {error}") from error
    return net


def check_pretrained(name: str) -> None:
    """Refuse to begin a network from ImageNet weights that do not exist.

    Raises:
        UsageError: unknown name.
        UnavailableError: timm has none.
    """
    import timm

    if not timm.is_model_pretrained(timm_name(name)):
        raise UnavailableError(
            f"timm has no ImageNet weights of '{name}'; begin from random weights with"
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
            f" from {hub.HOST}; connect once, or begin from random weights with --no-pretrained"
        ) from error
    finally:
        logging.getLogger("timm").setLevel(level)


def feature_width(backbone: nn.Module) -> int:
    """How many features a backbone hands to the head."""
    width: Any = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(width)


def pretraining_note(name: str, channels: int, stem_init: StemInit) -> str:
    """Which weights timm has for a network, and what becomes of the first convolution."""
    import timm

    tag = getattr(timm.get_pretrained_cfg(timm_name(name)), "tag", None)
    weights = f"ImageNet weights ({tag})" if tag else "ImageNet weights"
    if channels == 3:
        return f"{weights} as they are, a gray image repeated to three channels"
    if stem_init == "random":
        return f"{weights}, but a random first convolution for the one channel"
    return f"{weights}, the first convolution's three color filters summed into one"


def list_backbones(names: list[str] | None = None) -> list[BackboneInfo]:
    """What is known of each backbone: by default of those with plain names."""
    infos = []
    for name in names or PLAIN_NAMES:
        net = create_backbone(name, channels=1)
        reductions = [info["reduction"] for info in getattr(net, "feature_info", None) or []]
        infos.append(
            BackboneInfo(
                name=name,
                timm_name="" if name in D4NET_DEPTHS else timm_name(name),
                parameters=sum(p.numel() for p in net.parameters()),
                features=feature_width(net),
                stride=max(reductions, default=1),
            )
        )
    return infos
