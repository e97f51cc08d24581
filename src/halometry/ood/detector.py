"""What a predictor's own images look like, so that it can tell when an image is none of them.

Each side of an image (what the network makes of it, its `looks`, and these together) is a vector;
of familiar images it has a mean and a covariance, and an image is as strange as its most distant
side: together the looks tell most, but what is strange in one number alone drowns in many. Lee et
al. (2018), https://arxiv.org/abs/1807.03888, take this distance of a network's features, Wang et
al. (2022), https://arxiv.org/abs/2203.10807, add how far features lie outside the directions that
familiar ones vary in. How strange is unusual, other familiar images say: conformal p-values, Bates
et al. (2023), https://arxiv.org/abs/2104.08279.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halometry.ood.image_statistics import brightness_levels, looks

RATE = 0.01  # of familiar images that are called unusual
KEPT = 32  # directions of a network's features; how far they lie outside is one number more
EACH = 8  # images that a direction takes
FEWEST = 20  # images to learn from, and again to compare with
LEAST = 1e-3  # scatter of a number that familiar images share, in units of the largest scatter
TINY = 1e-12
OTHER_UNIT = 2.0  # times the scatter of familiar pixels, or a half: no lens of their kind
EXTREME = 0.01  # of an image's pixels at either end, which do not tell its unit
UNIT = "unit"
FEATURES, TOGETHER = "features", "together"  # what the network sees; all else in one vector

Sides = dict[str, Tensor]  # of an image, each (N, d)


@dataclass(frozen=True)
class Novelty:
    """How an image compares with those that a predictor knows.

    Attributes:
        familiarity: share of familiar images that look at least as strange, a p-value: of images
            of that kind it is uniform between 0 and 1.
        strangeness: how far it is from them; above 1 it is unusual.
        unusual: what is strangest about it (`features`, `light`, `center`, `spectrum` or
            `noise`; `unit` where nearly all pixels are far too large or too small), or None where
            it is not unusual.
    """

    familiarity: float
    strangeness: float
    unusual: str | None


@dataclass(frozen=True)
class View:
    """How images are looked at.

    Attributes:
        unit: standard deviation of familiar pixels, as the network is given them.
        levels: of brightness, see `halometry.ood.image_statistics.looks`.
        channels: of the images as they are kept; others are copies.
    """

    unit: Tensor
    levels: Tensor
    channels: int

    @classmethod
    def of(cls, images: Tensor, channels: int) -> View:
        """From some familiar images (N, C, H, W), preprocessed."""
        unit = images.std().clamp_min(TINY).cpu()
        levels = brightness_levels(images[:, :channels] / unit).cpu()
        return cls(unit, levels, channels)

    def sides(self, images: Tensor, features: Tensor) -> Sides:
        """What is seen of images (B, C, H, W) with a network's features (B, F)."""
        seen = looks(images[:, : self.channels].float() / self.unit, self.levels)
        return {side: of.cpu() for side, of in ({FEATURES: features.flatten(1)} | seen).items()}

    def in_another_unit(self, images: Tensor) -> Tensor:
        """Whether nearly all pixels of images (B, C, H, W) are far too large or too small, (B,)."""
        pixels = images.float().flatten(1).cpu().sort(dim=1).values
        least = int(EXTREME * pixels.shape[1])
        scatter = pixels[:, least : pixels.shape[1] - least].std(dim=1) / self.unit
        return (scatter > OTHER_UNIT) | (scatter < 1 / OTHER_UNIT)


@dataclass(frozen=True)
class Directions:
    """The directions in which familiar features vary most.

    Attributes:
        mean: (F,).
        axes: (F, k), orthonormal.
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Directions:
        """The principal directions of features (N, F)."""
        features = features.double()
        mean = features.mean(dim=0)
        _, _, directions = torch.linalg.svd(features - mean, full_matrices=False)
        kept = min(KEPT, max(1, len(features) // EACH))
        return cls(mean.float(), directions[:kept].T.float())

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, F) along these (N, k), and the logarithm of what is left (N, 1)."""
        away = features.double() - self.mean
        axes = self.axes.double()
        along = away @ axes
        if axes.shape[0] == axes.shape[1]:
            return along
        outside = (away - along @ axes.T).norm(dim=1, keepdim=True)
        return torch.cat([along, (outside + TINY).log()], dim=1)


@dataclass(frozen=True)
class Cloud:
    """Where vectors of familiar images lie.

    Attributes:
        mean: (d,).
        whitening: (d, d), from a difference to independent numbers of unit variance.
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Cloud:
        """From vectors (N, d); their covariance is shrunk as Ledoit & Wolf (2004) have it."""
        from sklearn.covariance import ledoit_wolf

        vectors = vectors.double()
        mean, scale = vectors.mean(dim=0), vectors.std(dim=0)
        scale = scale.clamp_min(LEAST * float(scale.max())).clamp_min(TINY)
        covariance, _ = ledoit_wolf(((vectors - mean) / scale).numpy(), assume_centered=True)
        values, axes = torch.linalg.eigh(torch.from_numpy(covariance))
        whitening = axes / values.clamp_min(TINY).sqrt() / scale[:, None]
        return cls(mean.float(), whitening.float())

    def distances(self, vectors: Tensor) -> Tensor:
        """Mahalanobis' distances of vectors (N, d), (N,); what is no number is infinitely far."""
        away = (vectors.double() - self.mean) @ self.whitening.double()
        return away.norm(dim=1).nan_to_num(nan=torch.inf).float()


@dataclass(frozen=True)
class Shape:
    """Where all sides of familiar images lie.

    Attributes:
        directions: of the network's features.
        clouds: one a side.
    """

    directions: Directions
    clouds: dict[str, Cloud]

    @classmethod
    def of(cls, sides: Sides) -> Shape:
        """From the sides of some images."""
        directions = Directions.of(sides[FEATURES])
        vectors = _vectors(sides, directions)
        return cls(directions, {side: Cloud.of(vectors[side]) for side in sorted(vectors)})

    def distances(self, sides: Sides) -> Tensor:
        """How far each side is away, in the order of `clouds` (N, sides)."""
        known = {side: of for side, of in sides.items() if side in self.clouds}  # not of old runs
        vectors = _vectors(known, self.directions)
        return torch.stack([c.distances(vectors[side]) for side, c in self.clouds.items()], dim=1)


def _vectors(sides: Sides, directions: Directions) -> Sides:
    """The sides with their features reduced, and one more of all looks together."""
    together = torch.cat([of.double() for side, of in sides.items() if side != FEATURES], dim=1)
    return sides | {FEATURES: directions(sides[FEATURES]), TOGETHER: together}


@dataclass(frozen=True)
class Familiar:
    """What a predictor's own images look like.

    Attributes:
        view: how they are looked at.
        shape: where they lie.
        units: distance of each side that a share `RATE` of images exceeds (sides,).
        compared: strangeness of the images that others are compared with, which nothing else
            here was learnt from, ascending (n,).
    """

    view: View
    shape: Shape
    units: Tensor
    compared: Tensor

    @classmethod
    def of(cls, view: View, learnt: Sides, compared: Sides) -> Familiar:
        """Learn from the sides of some familiar images, and compare with those of others."""
        # Images are nearer to a shape that was learnt from them, the more so the more numbers a
        # side has: each half of them is measured by the other.
        halves = [{side: of[k::2] for side, of in learnt.items()} for k in (0, 1)]
        distances = [Shape.of(a).distances(b) for a, b in (halves, halves[::-1])]
        units = torch.cat(distances).quantile(1 - RATE, dim=0).clamp_min(TINY)
        shape = Shape.of(learnt)
        strangeness = (shape.distances(compared) / units).amax(dim=1)
        return cls(view, shape, units, strangeness.sort().values)

    @property
    def rate(self) -> float:
        """Share of familiar images that are called unusual; with few to compare with, more."""
        return max(RATE, 1 / (len(self.compared) + 1))

    def judge(self, sides: Sides, other_unit: Tensor | None = None) -> list[Novelty]:
        """How images (N of them) compare with the familiar ones.

        Args:
            sides: of the images.
            other_unit: see `View.in_another_unit` (N,); None where each is scaled by itself.
        """
        distances = self.shape.distances(sides) / self.units
        strangeness, count = distances.amax(dim=1), len(self.compared)
        stranger = count - torch.searchsorted(self.compared, strangeness)
        familiarity = (1 + stranger).double() / (count + 1)
        # The image at which one more would be called unusual.
        limit = self.compared[count - int(self.rate * (count + 1) + TINY)].clamp_min(TINY)
        named = [(i, side) for i, side in enumerate(self.shape.clouds) if side != TOGETHER]
        strangest = distances[:, [i for i, _ in named]].argmax(dim=1)
        reasons = [named[side][1] for side in strangest.tolist()]
        if other_unit is not None:  # whatever else is strange follows from that
            reasons = [UNIT if o else r for o, r in zip(other_unit.tolist(), reasons, strict=True)]
        return [
            Novelty(p, s, reason if s > 1 else None)
            for p, s, reason in zip(
                familiarity.tolist(), (strangeness / limit).tolist(), reasons, strict=True
            )
        ]
