"""Linear algebra of images: changes that a set of fitted parameters cannot explain."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_EIGENVALUE_RATIO = 1e-10  # of a correlation matrix; below, two derivatives count as one


def project_out(changes: Tensor, derivatives: Tensor) -> Tensor:
    """Return the part of changes of an image that fitted parameters cannot explain.

    With the Jacobian J this is d - J^T (J J^T)^-1 J d. Its square is the gain in 2 ln L by the
    change, with the parameters fitted again in both cases (Kay 1998, sec. 6.5). This holds to
    first order, and for a prior on the parameters that is wide compared with their errors.

    `halometry.lensfit.mass_map` projects with a QR decomposition instead, which is faster where
    one set of derivatives serves many changes, but requires independent derivatives.

    Args:
        changes: in units of each pixel's noise (B, K, N).
        derivatives: of the image by the parameters, in the same units (B, P, N). They may be zero
            or linearly dependent.

    Returns:
        (B, K, N).
    """
    length = derivatives.norm(dim=-1, keepdim=True)
    unit = derivatives / torch.where(length == 0, 1.0, length)
    inverse = torch.linalg.pinv(unit @ unit.mT, hermitian=True, rtol=MIN_EIGENVALUE_RATIO)
    return changes - (changes @ unit.mT) @ inverse @ unit
