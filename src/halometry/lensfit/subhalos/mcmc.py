"""Markov chains over the subhalos of one image, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.lensfit.subhalos.response import LinearResponse

# How often each kind of step is proposed.
PROPOSAL_PROBABILITIES = {
    "mass": 0.25,
    "place": 0.25,
    "both": 0.1,
    "anywhere": 0.05,
    "share": 0.15,
    "number": 0.2,
}
LOG_MASS_STEPS = (0.03, 0.15, 0.6, 2.5)  # of steps in the logarithm of the mass
POSITION_STEPS_ARCSEC = (0.02, 0.08, 0.3)  # of steps in the place, arcsec


@dataclass
class Proposal:
    """One change to each of C chains: m subhalos out, m in; no mass is none.

    Attributes:
        slots: which of a chain's subhalos go (C, m).
        x, y, mass: what comes (C, m).
        odds: log of the prior's and the proposals' ratio (C,); -inf where there is nothing to do.
        number: by how much the number changes (C,).
    """

    slots: np.ndarray
    x: np.ndarray
    y: np.ndarray
    mass: np.ndarray
    log_ratio: np.ndarray
    number_change: np.ndarray


class SubhaloMCMC:
    """C states of the posterior, each a number of subhalos, changed by Metropolis-Hastings steps.

    Begun from the prior. All chains try a step of the same kind at a time.

    Args:
        laws: of the subhalos.
        chains: C.
        seed: of all dice.
    """

    def __init__(self, laws: SubhaloPrior, chains: int, seed: int) -> None:
        self.prior = laws
        self.rng = np.random.default_rng(seed)
        self.chain_index = np.arange(chains)
        self.number = self.rng.poisson(laws.mean_number, chains)
        # Room for what a Poisson law exceeds once in 1e12 draws.
        room = int(laws.mean_number + 8 * laws.mean_number**0.5 + 12)
        there = np.arange(room) < self.number[:, None]
        self.x, self.y = self._draw_positions((chains, room))
        self.mass = np.where(there, laws.mass_quantile(self.rng.random((chains, room))), 0.0)

    def set_response(self, effects: LinearResponse) -> None:
        """Take these effects of subhalos on the image from now on."""
        self.response, self.flat_products = effects, effects.products.ravel()
        self.nodes, self.weights = effects.interpolate(self.x, self.y, self.mass)

    @property
    def mass_fraction(self) -> np.ndarray:
        """The mass fraction of each chain (C,)."""
        total: np.ndarray = self.mass.sum(axis=1)
        return total

    def log_likelihood(self) -> np.ndarray:
        """ln L of each chain (C,), up to a constant."""
        cells = self.nodes.reshape(len(self.chain_index), -1)
        much = self.weights.reshape(len(self.chain_index), -1)
        size = len(self.response.projection)
        among = self.flat_products[cells[:, :, None] * size + cells[:, None, :]] @ much[:, :, None]
        gain: np.ndarray = (much * (self.response.projection[cells] - among[:, :, 0] / 2)).sum(
            axis=1
        )
        return gain

    def run(self, steps: int) -> None:
        """Go on by so many steps."""
        for kind in self.rng.choice(
            list(PROPOSAL_PROBABILITIES), p=list(PROPOSAL_PROBABILITIES.values()), size=steps
        ):
            if kind == "number":
                self._metropolis_step(self._propose_birth_or_death())
            elif kind == "share":
                self._metropolis_step(self._propose_split())
            else:
                self._metropolis_step(self._propose_move(kind))

    def _metropolis_step(self, proposal: Proposal) -> None:
        """Make a change where the dice say so."""
        at = (self.chain_index[:, None], proposal.slots)
        which, much = self.response.interpolate(proposal.x, proposal.y, proposal.mass)
        old = np.where(proposal.number_change > 0, 0.0, 1.0)[:, None, None] * self.weights[at]
        cells = np.concatenate([self.nodes[at], which], axis=1).reshape(len(self.chain_index), -1)
        change = np.concatenate([-old, much], axis=1).reshape(len(self.chain_index), -1)
        limit = np.log(self.rng.random(len(self.chain_index)))
        taken = np.nonzero(limit < self._log_likelihood_change(cells, change) + proposal.log_ratio)[
            0
        ]
        slots = proposal.slots[taken]
        where = taken[:, None]
        for kept, new in (
            (self.x, proposal.x),
            (self.y, proposal.y),
            (self.mass, proposal.mass),
            (self.nodes, which),
            (self.weights, much),
        ):
            kept[where, slots] = new[taken]
        self.number[taken] += proposal.number_change[taken]
        gone = taken[proposal.number_change[taken] < 0]
        if len(gone):  # the last one takes its place
            hole, last = proposal.slots[gone, 0], self.number[gone]
            for kept in (self.x, self.y, self.mass, self.nodes, self.weights):
                kept[gone, hole] = kept[gone, last]
            self.mass[gone, last] = 0.0
            self.weights[gone, last] = 0.0

    def _log_likelihood_change(self, cells: np.ndarray, change: np.ndarray) -> np.ndarray:
        """By how much ln L grows when effects (C, n) are added in these amounts."""
        most = self.number.max()
        chains, size = len(self.chain_index), len(self.response.projection)
        rows = cells[:, :, None] * size
        there = self.nodes[:, :most].reshape(chains, 1, -1)
        now = self.flat_products[rows + there] @ self.weights[:, :most].reshape(chains, -1, 1)
        pull = self.response.projection[cells] - now[:, :, 0]
        among = self.flat_products[rows + cells[:, None, :]] @ change[:, :, None]
        gain: np.ndarray = (change * (pull - among[:, :, 0] / 2)).sum(axis=1)
        return gain

    def _propose_move(self, kind: str) -> Proposal:
        """One subhalo's mass, place, or both, changed a little; or put anywhere."""
        slots, odds = self._choose_subhalo()
        x, y, mass = (
            kept[self.chain_index[:, None], slots] for kept in (self.x, self.y, self.mass)
        )
        if kind in ("mass", "both"):
            step = self.rng.choice(LOG_MASS_STEPS) * self.rng.standard_normal(mass.shape)
            # Steps are even in the logarithm, which is one more power of the mass.
            odds = odds + self._log_mass_prior_ratio(mass * np.exp(step), mass) + step[:, 0]
            mass = mass * np.exp(step)
        if kind == "anywhere":
            x, y = self._draw_positions(x.shape)
        elif kind != "mass":
            length = self.rng.choice(POSITION_STEPS_ARCSEC)
            before = np.hypot(x, y)
            x, y = (at + length * self.rng.standard_normal(x.shape) for at in (x, y))
            after = np.hypot(x, y)
            inside = (after >= self.prior.min_radius) & (after <= self.prior.max_radius)
            # Uniform in distance: the density in the plane falls with it.
            odds = odds + np.where(inside, np.log(before / after), -np.inf)[:, 0]
            x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        return Proposal(slots, x, y, mass, odds, np.zeros_like(self.number))

    def _propose_split(self) -> Proposal:
        """The mass of two subhalos divided anew between them."""
        first, odds = self._choose_subhalo()
        others = np.maximum(self.number - 1, 1)[:, None]
        second = (self.rng.random(first.shape) * others).astype(int)
        second += second >= first
        slots = np.concatenate([first, second], axis=1)
        x, y, mass = (
            kept[self.chain_index[:, None], slots] for kept in (self.x, self.y, self.mass)
        )
        share = self.rng.random((len(mass), 1))
        new = mass.sum(axis=1, keepdims=True) * np.concatenate([share, 1 - share], axis=1)
        odds = np.where(self.number > 1, odds + self._log_mass_prior_ratio(new, mass), -np.inf)
        return Proposal(slots, x, y, new, odds, np.zeros_like(self.number))

    def _propose_birth_or_death(self) -> Proposal:
        """A new subhalo drawn from the prior, or one of those there taken away."""
        born = self.rng.random(len(self.chain_index)) < 0.5
        full, there = self._choose_subhalo()
        slots = np.where(born[:, None], self.number[:, None], full)
        x, y = self._draw_positions(slots.shape)
        mass = np.where(born[:, None], self.prior.mass_quantile(self.rng.random(slots.shape)), 0.0)
        mean = self.prior.mean_number
        odds = np.where(
            born,
            np.log(mean / (self.number + 1)),
            np.log(np.maximum(self.number, 1) / mean) + there,
        )
        outside = born & (self.number == self.mass.shape[1])
        slots = np.minimum(slots, self.mass.shape[1] - 1)
        odds = np.where(outside, -np.inf, odds)
        return Proposal(slots, x, y, mass, odds, np.where(born, 1, -1))

    def _choose_subhalo(self) -> tuple[np.ndarray, np.ndarray]:
        """One subhalo of each chain (C, 1), and -inf for those that have none (C,)."""
        slots = (self.rng.random(len(self.chain_index)) * self.number).astype(int)
        return slots[:, None], np.where(self.number > 0, 0.0, -np.inf)

    def _draw_positions(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        radius = self.rng.uniform(self.prior.min_radius, self.prior.max_radius, shape)
        angle = self.rng.uniform(0, 2 * np.pi, shape)
        return radius * np.cos(angle), radius * np.sin(angle)

    def _log_mass_prior_ratio(self, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Log of the prior's density of some masses (C, m) over that of others, together (C,)."""
        inside = ((new >= self.prior.min_fraction) & (new <= self.prior.max_fraction)).all(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # of places that are empty
            log = self.prior.slope * np.log(new / old).sum(axis=1)
        odds: np.ndarray = np.where(inside, log, -np.inf)
        return odds
