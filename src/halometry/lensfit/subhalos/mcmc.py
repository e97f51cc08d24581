"""Markov chain Monte Carlo over the subhalos of one image, with several chains in parallel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.lensfit.subhalos.response import LinearResponse

PROPOSAL_PROBABILITIES = {
    "mass": 0.25,
    "position": 0.25,
    "mass and position": 0.1,
    "position from prior": 0.05,
    "split": 0.15,  # the summed mass of two subhalos anew between them
    "birth or death": 0.2,
}
LOG_MASS_STEPS = (0.03, 0.15, 0.6, 2.5)  # standard deviations in the logarithm of the mass
POSITION_STEPS_ARCSEC = (0.02, 0.08, 0.3)  # standard deviations in x and y


@dataclass
class Proposal:
    """Proposed change of each of C chains: m subhalos are replaced by m others.

    A mass of 0 stands for no subhalo.

    Attributes:
        slots: indices of the replaced subhalos (C, m).
        x, y, mass: of the new subhalos (C, m).
        log_ratio: log of the ratio of the priors times that of the proposal densities (C,); -inf
            where the proposal is impossible.
        number_change: change of the number of subhalos (C,).
    """

    slots: np.ndarray
    x: np.ndarray
    y: np.ndarray
    mass: np.ndarray
    log_ratio: np.ndarray
    number_change: np.ndarray


class SubhaloMCMC:
    """Metropolis-Hastings sampler of a varying number of subhalos, with C chains.

    The chains start from draws of the prior. All chains propose the same kind of change in a step.

    Args:
        prior: of the subhalos.
        chains: C.
        seed: of the random numbers.
    """

    def __init__(self, prior: SubhaloPrior, chains: int, seed: int) -> None:
        self.prior = prior
        self.rng = np.random.default_rng(seed)
        self.chain_index = np.arange(chains)
        self.number = self.rng.poisson(prior.mean_number, chains)
        # A Poisson number exceeds the capacity with a probability of 1e-12.
        capacity = int(prior.mean_number + 8 * prior.mean_number**0.5 + 12)
        occupied = np.arange(capacity) < self.number[:, None]
        self.x, self.y = self._draw_positions((chains, capacity))
        mass = prior.mass_quantile(self.rng.random((chains, capacity)))
        self.mass = np.where(occupied, mass, 0.0)

    def set_response(self, response: LinearResponse) -> None:
        """Set the linear response of the image, which defines the likelihood."""
        self.response, self.flat_products = response, response.products.ravel()
        self.nodes, self.weights = response.interpolate(self.x, self.y, self.mass)

    @property
    def mass_fraction(self) -> np.ndarray:
        """Mass of all subhalos over the mass of the halo, in each chain (C,)."""
        total: np.ndarray = self.mass.sum(axis=1)
        return total

    def log_likelihood(self) -> np.ndarray:
        """Compute ln L of each chain (C,), up to a constant."""
        nodes = self.nodes.reshape(len(self.chain_index), -1)
        weights = self.weights.reshape(len(self.chain_index), -1)
        size = len(self.response.projection)
        pairs = nodes[:, :, None] * size + nodes[:, None, :]
        products = self.flat_products[pairs] @ weights[:, :, None]
        projection = self.response.projection[nodes]
        value: np.ndarray = (weights * (projection - products[:, :, 0] / 2)).sum(axis=1)
        return value

    def run(self, steps: int) -> None:
        """Advance all chains by a number of steps."""
        kinds, probabilities = zip(*PROPOSAL_PROBABILITIES.items(), strict=True)
        for kind in self.rng.choice(kinds, p=probabilities, size=steps):
            if kind == "birth or death":
                self._metropolis_step(self._propose_birth_or_death())
            elif kind == "split":
                self._metropolis_step(self._propose_split())
            else:
                self._metropolis_step(self._propose_move(kind))

    def _metropolis_step(self, proposal: Proposal) -> None:
        """Accept or reject a proposal in each chain."""
        at = (self.chain_index[:, None], proposal.slots)
        nodes, weights = self.response.interpolate(proposal.x, proposal.y, proposal.mass)
        removed = np.where(proposal.number_change > 0, 0.0, 1.0)[:, None, None] * self.weights[at]
        count = len(self.chain_index)
        changed = np.concatenate([self.nodes[at], nodes], axis=1).reshape(count, -1)
        change = np.concatenate([-removed, weights], axis=1).reshape(count, -1)
        threshold = np.log(self.rng.random(count))
        log_ratio = self._log_likelihood_change(changed, change) + proposal.log_ratio
        accepted = np.nonzero(threshold < log_ratio)[0]
        slots = proposal.slots[accepted]
        rows = accepted[:, None]
        for state, new in (
            (self.x, proposal.x),
            (self.y, proposal.y),
            (self.mass, proposal.mass),
            (self.nodes, nodes),
            (self.weights, weights),
        ):
            state[rows, slots] = new[accepted]
        self.number[accepted] += proposal.number_change[accepted]
        dead = accepted[proposal.number_change[accepted] < 0]
        if len(dead):  # the last subhalo takes the place of the removed one
            hole, last = proposal.slots[dead, 0], self.number[dead]
            for state in (self.x, self.y, self.mass, self.nodes, self.weights):
                state[dead, hole] = state[dead, last]
            self.mass[dead, last] = 0.0
            self.weights[dead, last] = 0.0

    def _log_likelihood_change(self, nodes: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Compute the change of ln L (C,) when the response at nodes is added.

        Args:
            nodes: of the response (C, n).
            change: of the weights at these nodes (C, n).
        """
        largest = self.number.max()
        chains, size = len(self.chain_index), len(self.response.projection)
        rows = nodes[:, :, None] * size
        present = self.nodes[:, :largest].reshape(chains, 1, -1)
        weights = self.weights[:, :largest].reshape(chains, -1, 1)
        explained = self.flat_products[rows + present] @ weights
        projection = self.response.projection[nodes] - explained[:, :, 0]
        products = self.flat_products[rows + nodes[:, None, :]] @ change[:, :, None]
        value: np.ndarray = (change * (projection - products[:, :, 0] / 2)).sum(axis=1)
        return value

    def _propose_move(self, kind: str) -> Proposal:
        """Propose another mass, position, or both, for one subhalo of each chain."""
        slots, log_ratio = self._choose_subhalo()
        x, y, mass = (
            state[self.chain_index[:, None], slots] for state in (self.x, self.y, self.mass)
        )
        if kind in ("mass", "mass and position"):
            step = self.rng.choice(LOG_MASS_STEPS) * self.rng.standard_normal(mass.shape)
            # Steps are symmetric in the logarithm, which adds one power of the mass.
            log_prior_ratio = self._log_mass_prior_ratio(mass * np.exp(step), mass)
            log_ratio = log_ratio + log_prior_ratio + step[:, 0]
            mass = mass * np.exp(step)
        if kind == "position from prior":
            x, y = self._draw_positions(x.shape)
        elif kind != "mass":
            length = self.rng.choice(POSITION_STEPS_ARCSEC)
            before = np.hypot(x, y)
            x, y = (v + length * self.rng.standard_normal(x.shape) for v in (x, y))
            after = np.hypot(x, y)
            inside = (after >= self.prior.min_radius) & (after <= self.prior.max_radius)
            # The prior is uniform in the distance: the density per area falls with its inverse.
            log_ratio = log_ratio + np.where(inside, np.log(before / after), -np.inf)[:, 0]
            x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        return Proposal(slots, x, y, mass, log_ratio, np.zeros_like(self.number))

    def _propose_split(self) -> Proposal:
        """Propose another division of the summed mass of two subhalos between them."""
        first, log_ratio = self._choose_subhalo()
        others = np.maximum(self.number - 1, 1)[:, None]
        second = (self.rng.random(first.shape) * others).astype(int)
        second += second >= first
        slots = np.concatenate([first, second], axis=1)
        x, y, mass = (
            state[self.chain_index[:, None], slots] for state in (self.x, self.y, self.mass)
        )
        part = self.rng.random((len(mass), 1))
        new = mass.sum(axis=1, keepdims=True) * np.concatenate([part, 1 - part], axis=1)
        log_ratio = log_ratio + self._log_mass_prior_ratio(new, mass)
        log_ratio = np.where(self.number > 1, log_ratio, -np.inf)
        return Proposal(slots, x, y, new, log_ratio, np.zeros_like(self.number))

    def _propose_birth_or_death(self) -> Proposal:
        """Propose a new subhalo from the prior, or the removal of one."""
        born = self.rng.random(len(self.chain_index)) < 0.5
        chosen, if_any = self._choose_subhalo()
        slots = np.where(born[:, None], self.number[:, None], chosen)
        x, y = self._draw_positions(slots.shape)
        mass = self.prior.mass_quantile(self.rng.random(slots.shape))
        mass = np.where(born[:, None], mass, 0.0)
        mean = self.prior.mean_number
        log_ratio = np.where(
            born,
            np.log(mean / (self.number + 1)),
            np.log(np.maximum(self.number, 1) / mean) + if_any,
        )
        full = born & (self.number == self.mass.shape[1])
        slots = np.minimum(slots, self.mass.shape[1] - 1)
        log_ratio = np.where(full, -np.inf, log_ratio)
        return Proposal(slots, x, y, mass, log_ratio, np.where(born, 1, -1))

    def _choose_subhalo(self) -> tuple[np.ndarray, np.ndarray]:
        """Choose one subhalo of each chain.

        Returns:
            Its slot (C, 1), and a log ratio of 0, or of -inf in chains without subhalos (C,).
        """
        slots = (self.rng.random(len(self.chain_index)) * self.number).astype(int)
        return slots[:, None], np.where(self.number > 0, 0.0, -np.inf)

    def _draw_positions(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Draw positions x and y of a shape from the prior."""
        radius = self.rng.uniform(self.prior.min_radius, self.prior.max_radius, shape)
        angle = self.rng.uniform(0, 2 * np.pi, shape)
        return radius * np.cos(angle), radius * np.sin(angle)

    def _log_mass_prior_ratio(self, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Compute the log ratio (C,) of the prior densities of masses (C, m), all m together."""
        inside = ((new >= self.prior.min_fraction) & (new <= self.prior.max_fraction)).all(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # slots without a subhalo
            log_ratio = self.prior.slope * np.log(new / old).sum(axis=1)
        ratio: np.ndarray = np.where(inside, log_ratio, -np.inf)
        return ratio
