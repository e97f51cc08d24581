"""Out-of-distribution (OOD) detector: how far an image lies from the images a network knows.

An image is described by groups of numbers: features of the network, statistics of the image
(`halometry.ood.image_statistics`), and all statistics together. A Gaussian is fitted to each group
of in-distribution images. The score of an image is its largest Mahalanobis distance over the
groups, relative to distances of in-distribution images. The p-value is the fraction of reference
images, which the Gaussians were not fitted to, with a score at least as large.

References:
    Lee et al. (2018), https://arxiv.org/abs/1807.03888: Mahalanobis distance of features.
    Wang et al. (2022), https://arxiv.org/abs/2203.10807: distance from the principal subspace.
    Bates et al. (2023), https://arxiv.org/abs/2104.08279: conformal p-values for outliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halometry.ood.image_statistics import brightness_levels, image_statistics

FALSE_POSITIVE_RATE = 0.01  # fraction of in-distribution images that are flagged
MAX_COMPONENTS = 32  # principal components of the network's features
IMAGES_PER_COMPONENT = 8  # images needed for each component
MIN_IMAGES = 20  # images needed to fit, and as many to compare with
MIN_RELATIVE_STD = 1e-3  # smallest standard deviation of a number, relative to the group's largest
TINY = 1e-12
MAX_UNIT_RATIO = 2.0  # largest ratio of pixel standard deviations that one unit can explain
TRIMMED_FRACTION = 0.01  # brightest and faintest pixels left out when the unit is checked
UNIT = "unit"  # reason: the pixel values have another unit
FEATURES = "features"  # group: features of the network
STATISTICS = "statistics"  # group: all image statistics in one vector; never given as a reason

Groups = dict[str, Tensor]  # name of a group to its vectors (N, d)


@dataclass(frozen=True)
class OODResult:
    """Comparison of one image with the in-distribution images of a network.

    Attributes:
        p_value: fraction of in-distribution images that are at least as anomalous; uniform
            between 0 and 1 for in-distribution images.
        score: distance from the in-distribution images; the image is flagged above 1.
        reason: group with the largest distance (`features`, `light`, `center`, `spectrum` or
            `noise`; `unit` where nearly all pixel values are too large or too small), or None
            where the image is in distribution.
    """

    p_value: float
    score: float
    reason: str | None


@dataclass(frozen=True)
class ImageScaling:
    """Unit and brightness levels with which image statistics are computed.

    Attributes:
        unit: standard deviation of the pixels of preprocessed in-distribution images.
        levels: brightness levels of `halometry.ood.image_statistics`, in that unit (L,).
        channels: channels of the stored images; further channels of the network's input are
            copies.
    """

    unit: Tensor
    levels: Tensor
    channels: int

    @classmethod
    def fit(cls, images: Tensor, channels: int) -> ImageScaling:
        """Measure unit and levels on preprocessed in-distribution images (N, C, H, W)."""
        unit = images.std().clamp_min(TINY).cpu()
        levels = brightness_levels(images[:, :channels] / unit).cpu()
        return cls(unit, levels, channels)

    def groups(self, images: Tensor, features: Tensor) -> Groups:
        """Return the groups of preprocessed images (B, C, H, W) with features (B, F)."""
        scaled = images[:, : self.channels].float() / self.unit
        groups = {FEATURES: features.flatten(1)} | image_statistics(scaled, self.levels)
        return {name: vectors.cpu() for name, vectors in groups.items()}

    def has_other_unit(self, images: Tensor) -> Tensor:
        """Return whether nearly all pixels of images (B, C, H, W) are too large or small, (B,)."""
        pixels = images.float().flatten(1).cpu().sort(dim=1).values
        trimmed = int(TRIMMED_FRACTION * pixels.shape[1])
        ratio = pixels[:, trimmed : pixels.shape[1] - trimmed].std(dim=1) / self.unit
        return (ratio > MAX_UNIT_RATIO) | (ratio < 1 / MAX_UNIT_RATIO)


@dataclass(frozen=True)
class PrincipalSubspace:
    """Principal components of a network's features.

    Attributes:
        mean: mean feature vector (F,).
        axes: orthonormal principal axes (F, k).
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> PrincipalSubspace:
        """Compute the principal components of features (N, F)."""
        features = features.double()
        mean = features.mean(dim=0)
        _, _, directions = torch.linalg.svd(features - mean, full_matrices=False)
        count = min(MAX_COMPONENTS, max(1, len(features) // IMAGES_PER_COMPONENT))
        return cls(mean.float(), directions[:count].T.float())

    def project(self, features: Tensor) -> Tensor:
        """Return coordinates in the subspace and the logarithm of the distance from it.

        Args:
            features: (N, F).

        Returns:
            (N, k + 1); (N, k) where the subspace is the whole space.
        """
        centered = features.double() - self.mean
        axes = self.axes.double()
        inside = centered @ axes
        if axes.shape[0] == axes.shape[1]:
            return inside
        distance = (centered - inside @ axes.T).norm(dim=1, keepdim=True)
        return torch.cat([inside, (distance + TINY).log()], dim=1)


@dataclass(frozen=True)
class GaussianModel:
    """Gaussian with a shrunk covariance.

    Attributes:
        mean: (d,).
        whitening: matrix that maps differences from the mean to independent numbers of unit
            variance (d, d).
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(cls, vectors: Tensor) -> GaussianModel:
        """Fit vectors (N, d), with the shrinkage of Ledoit & Wolf (2004) for the covariance."""
        from sklearn.covariance import ledoit_wolf

        vectors = vectors.double()
        mean, scale = vectors.mean(dim=0), vectors.std(dim=0)
        scale = scale.clamp_min(MIN_RELATIVE_STD * float(scale.max())).clamp_min(TINY)
        covariance, _ = ledoit_wolf(((vectors - mean) / scale).numpy(), assume_centered=True)
        values, axes = torch.linalg.eigh(torch.from_numpy(covariance))
        whitening = axes / values.clamp_min(TINY).sqrt() / scale[:, None]
        return cls(mean.float(), whitening.float())

    def distances(self, vectors: Tensor) -> Tensor:
        """Return Mahalanobis distances of vectors (N, d), (N,); infinite where one is NaN."""
        whitened = (vectors.double() - self.mean) @ self.whitening.double()
        return whitened.norm(dim=1).nan_to_num(nan=torch.inf).float()


@dataclass(frozen=True)
class FeatureGroups:
    """One Gaussian for each group of numbers.

    Attributes:
        subspace: principal components of the network's features.
        gaussians: name of a group to its Gaussian, sorted by name.
    """

    subspace: PrincipalSubspace
    gaussians: dict[str, GaussianModel]

    @classmethod
    def fit(cls, groups: Groups) -> FeatureGroups:
        """Fit the groups of in-distribution images."""
        subspace = PrincipalSubspace.fit(groups[FEATURES])
        vectors = _vectors(groups, subspace)
        return cls(subspace, {name: GaussianModel.fit(vectors[name]) for name in sorted(vectors)})

    def distances(self, groups: Groups) -> Tensor:
        """Return the distances of N images in the order of `gaussians`, (N, groups)."""
        vectors = _vectors(groups, self.subspace)
        pairs = self.gaussians.items()
        return torch.stack([model.distances(vectors[name]) for name, model in pairs], dim=1)


def _vectors(groups: Groups, subspace: PrincipalSubspace) -> Groups:
    """Project the features and add the group of all image statistics."""
    statistics = [vectors.double() for name, vectors in groups.items() if name != FEATURES]
    return groups | {
        FEATURES: subspace.project(groups[FEATURES]),
        STATISTICS: torch.cat(statistics, dim=1),
    }


@dataclass(frozen=True)
class OODDetector:
    """Detector of images that differ from the images a network knows.

    Attributes:
        scaling: unit and levels of the image statistics.
        model: the Gaussians.
        distance_scales: distance of each group that a fraction `FALSE_POSITIVE_RATE` of
            in-distribution images exceeds (groups,).
        reference_scores: scores of the reference images, ascending (n,).
    """

    scaling: ImageScaling
    model: FeatureGroups
    distance_scales: Tensor
    reference_scores: Tensor

    @classmethod
    def fit(cls, scaling: ImageScaling, groups: Groups, reference: Groups) -> OODDetector:
        """Fit a detector.

        Args:
            scaling: unit and levels of the image statistics.
            groups: groups of in-distribution images, for the Gaussians.
            reference: groups of other in-distribution images, for the p-values.
        """
        # Distances of the images that a Gaussian was fitted to are too small. So each half of the
        # images is measured by the Gaussians of the other half.
        halves = [{name: vectors[k::2] for name, vectors in groups.items()} for k in (0, 1)]
        distances = [FeatureGroups.fit(a).distances(b) for a, b in (halves, halves[::-1])]
        scales = torch.cat(distances).quantile(1 - FALSE_POSITIVE_RATE, dim=0).clamp_min(TINY)
        model = FeatureGroups.fit(groups)
        scores = (model.distances(reference) / scales).amax(dim=1)
        return cls(scaling, model, scales, scores.sort().values)

    @property
    def false_positive_rate(self) -> float:
        """Fraction of in-distribution images that are flagged; larger with few references."""
        return max(FALSE_POSITIVE_RATE, 1 / (len(self.reference_scores) + 1))

    def detect(
        self, images: Tensor, features: Tensor, *, check_unit: bool = False
    ) -> list[OODResult]:
        """Compare images with the in-distribution images.

        Args:
            images: preprocessed images (B, C, H, W).
            features: features of the network (B, F).
            check_unit: whether the unit of the pixel values matters; not where the preprocessing
                scales each image by its own range.
        """
        other_unit = self.scaling.has_other_unit(images) if check_unit else None
        return self.evaluate(self.scaling.groups(images, features), other_unit)

    def evaluate(self, groups: Groups, other_unit: Tensor | None = None) -> list[OODResult]:
        """Compare N images with the in-distribution images.

        Args:
            groups: groups of the images.
            other_unit: see `ImageScaling.has_other_unit` (N,); None where the unit is not checked.
        """
        distances = self.model.distances(groups) / self.distance_scales
        scores, count = distances.amax(dim=1), len(self.reference_scores)
        above = count - torch.searchsorted(self.reference_scores, scores)
        p_values = (1 + above).double() / (count + 1)
        # Reference score at which one more image would be flagged.
        position = count - int(self.false_positive_rate * (count + 1) + TINY)
        threshold = self.reference_scores[position].clamp_min(TINY)
        names = [(i, name) for i, name in enumerate(self.model.gaussians) if name != STATISTICS]
        farthest = distances[:, [i for i, _ in names]].argmax(dim=1)
        reasons = [names[k][1] for k in farthest.tolist()]
        if other_unit is not None:  # another unit explains all other differences
            pairs = zip(other_unit.tolist(), reasons, strict=True)
            reasons = [UNIT if other else reason for other, reason in pairs]
        return [
            OODResult(p_value, score, reason if score > 1 else None)
            for p_value, score, reason in zip(
                p_values.tolist(), (scores / threshold).tolist(), reasons, strict=True
            )
        ]
