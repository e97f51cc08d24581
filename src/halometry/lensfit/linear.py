"""TODO docstring."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_EIGENVALUE_RATIO = (
    1e-10  # of a correlation matrix' largest eigenvalue: below, directions are one
)


def project_out(changes: Tensor, derivatives: Tensor) -> Tensor:
    """What is left of changes of an image when all that parameters can make is taken away.

    With the Jacobian J this is d - J^T (J J^T)^-1 J d; its square is the gain in 2 ln L when the
    parameters are fitted again with and without the change (Kay 1998, sec. 6.5), to first order,
    and with a prior on the parameters that is wide against their errors.

    Args:
        changes: in units of each pixel's noise (B, K, N).
        derivatives: of the image by the parameters, in the same units (B, P, N); those that are
            zero or a sum of others are no obstacle.

    Returns:
        (B, K, N).
    """
    length = derivatives.norm(dim=-1, keepdim=True)
    unit = derivatives / torch.where(length == 0, 1.0, length)
    inverse = torch.linalg.pinv(unit @ unit.mT, hermitian=True, rtol=MIN_EIGENVALUE_RATIO)
    return changes - (changes @ unit.mT) @ inverse @ unit
