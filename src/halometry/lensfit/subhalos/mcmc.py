"""Markov chains over the subhalos of one image, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.lensfit.subhalos.priors import Laws
from halometry.lensfit.subhalos.response import Effects

# How often each kind of step is proposed.
KINDS = {"mass": 0.25, "place": 0.25, "both": 0.1, "anywhere": 0.05, "share": 0.15, "number": 0.2}
WIDTHS = (0.03, 0.15, 0.6, 2.5)  # of steps in the logarithm of the mass
LENGTHS = (0.02, 0.08, 0.3)  # of steps in the place, arcsec


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
    odds: np.ndarray
    number: np.ndarray


class Chains:
    """C states of the posterior, each a number of subhalos, changed by Metropolis-Hastings steps.

    Begun from the prior. All chains try a step of the same kind at a time.

    Args:
        laws: of the subhalos.
        chains: C.
        seed: of all dice.
    """

    def __init__(self, laws: Laws, chains: int, seed: int) -> None:
        self.laws = laws
        self.random = np.random.default_rng(seed)
        self.chain = np.arange(chains)
        self.number = self.random.poisson(laws.number, chains)
        # Room for what a Poisson law exceeds once in 1e12 draws.
        room = int(laws.number + 8 * laws.number**0.5 + 12)
        there = np.arange(room) < self.number[:, None]
        self.x, self.y = self._anywhere((chains, room))
        self.mass = np.where(there, laws.masses(self.random.random((chains, room))), 0.0)

    def look(self, effects: Effects) -> None:
        """Take these effects of subhalos on the image from now on."""
        self.effects, self.flat = effects, effects.products.ravel()
        self.which, self.much = effects.of(self.x, self.y, self.mass)

    @property
    def total(self) -> np.ndarray:
        """The mass fraction of each chain (C,)."""
        total: np.ndarray = self.mass.sum(axis=1)
        return total

    def likelihood(self) -> np.ndarray:
        """ln L of each chain (C,), up to a constant."""
        cells = self.which.reshape(len(self.chain), -1)
        much = self.much.reshape(len(self.chain), -1)
        size = len(self.effects.pull)
        among = self.flat[cells[:, :, None] * size + cells[:, None, :]] @ much[:, :, None]
        gain: np.ndarray = (much * (self.effects.pull[cells] - among[:, :, 0] / 2)).sum(axis=1)
        return gain

    def run(self, steps: int) -> None:
        """Go on by so many steps."""
        for kind in self.random.choice(list(KINDS), p=list(KINDS.values()), size=steps):
            if kind == "number":
                self._try(self._birth_or_death())
            elif kind == "share":
                self._try(self._share())
            else:
                self._try(self._move(kind))

    def _try(self, proposal: Proposal) -> None:
        """Make a change where the dice say so."""
        at = (self.chain[:, None], proposal.slots)
        which, much = self.effects.of(proposal.x, proposal.y, proposal.mass)
        old = np.where(proposal.number > 0, 0.0, 1.0)[:, None, None] * self.much[at]
        cells = np.concatenate([self.which[at], which], axis=1).reshape(len(self.chain), -1)
        change = np.concatenate([-old, much], axis=1).reshape(len(self.chain), -1)
        limit = np.log(self.random.random(len(self.chain)))
        taken = np.nonzero(limit < self._gain(cells, change) + proposal.odds)[0]
        slots = proposal.slots[taken]
        where = taken[:, None]
        for kept, new in (
            (self.x, proposal.x),
            (self.y, proposal.y),
            (self.mass, proposal.mass),
            (self.which, which),
            (self.much, much),
        ):
            kept[where, slots] = new[taken]
        self.number[taken] += proposal.number[taken]
        gone = taken[proposal.number[taken] < 0]
        if len(gone):  # the last one takes its place
            hole, last = proposal.slots[gone, 0], self.number[gone]
            for kept in (self.x, self.y, self.mass, self.which, self.much):
                kept[gone, hole] = kept[gone, last]
            self.mass[gone, last] = 0.0
            self.much[gone, last] = 0.0

    def _gain(self, cells: np.ndarray, change: np.ndarray) -> np.ndarray:
        """By how much ln L grows when effects (C, n) are added in these amounts."""
        most = self.number.max()
        chains, size = len(self.chain), len(self.effects.pull)
        rows = cells[:, :, None] * size
        there = self.which[:, :most].reshape(chains, 1, -1)
        now = self.flat[rows + there] @ self.much[:, :most].reshape(chains, -1, 1)
        pull = self.effects.pull[cells] - now[:, :, 0]
        among = self.flat[rows + cells[:, None, :]] @ change[:, :, None]
        gain: np.ndarray = (change * (pull - among[:, :, 0] / 2)).sum(axis=1)
        return gain

    def _move(self, kind: str) -> Proposal:
        """One subhalo's mass, place, or both, changed a little; or put anywhere."""
        slots, odds = self._chosen()
        x, y, mass = (kept[self.chain[:, None], slots] for kept in (self.x, self.y, self.mass))
        if kind in ("mass", "both"):
            step = self.random.choice(WIDTHS) * self.random.standard_normal(mass.shape)
            # Steps are even in the logarithm, which is one more power of the mass.
            odds = odds + self._law(mass * np.exp(step), mass) + step[:, 0]
            mass = mass * np.exp(step)
        if kind == "anywhere":
            x, y = self._anywhere(x.shape)
        elif kind != "mass":
            length = self.random.choice(LENGTHS)
            before = np.hypot(x, y)
            x, y = (at + length * self.random.standard_normal(x.shape) for at in (x, y))
            after = np.hypot(x, y)
            inside = (after >= self.laws.inner) & (after <= self.laws.outer)
            # Uniform in distance: the density in the plane falls with it.
            odds = odds + np.where(inside, np.log(before / after), -np.inf)[:, 0]
            x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        return Proposal(slots, x, y, mass, odds, np.zeros_like(self.number))

    def _share(self) -> Proposal:
        """The mass of two subhalos divided anew between them."""
        first, odds = self._chosen()
        others = np.maximum(self.number - 1, 1)[:, None]
        second = (self.random.random(first.shape) * others).astype(int)
        second += second >= first
        slots = np.concatenate([first, second], axis=1)
        x, y, mass = (kept[self.chain[:, None], slots] for kept in (self.x, self.y, self.mass))
        share = self.random.random((len(mass), 1))
        new = mass.sum(axis=1, keepdims=True) * np.concatenate([share, 1 - share], axis=1)
        odds = np.where(self.number > 1, odds + self._law(new, mass), -np.inf)
        return Proposal(slots, x, y, new, odds, np.zeros_like(self.number))

    def _birth_or_death(self) -> Proposal:
        """A new subhalo drawn from the prior, or one of those there taken away."""
        born = self.random.random(len(self.chain)) < 0.5
        full, there = self._chosen()
        slots = np.where(born[:, None], self.number[:, None], full)
        x, y = self._anywhere(slots.shape)
        mass = np.where(born[:, None], self.laws.masses(self.random.random(slots.shape)), 0.0)
        mean = self.laws.number
        odds = np.where(
            born,
            np.log(mean / (self.number + 1)),
            np.log(np.maximum(self.number, 1) / mean) + there,
        )
        outside = born & (self.number == self.mass.shape[1])
        slots = np.minimum(slots, self.mass.shape[1] - 1)
        odds = np.where(outside, -np.inf, odds)
        return Proposal(slots, x, y, mass, odds, np.where(born, 1, -1))

    def _chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """One subhalo of each chain (C, 1), and -inf for those that have none (C,)."""
        slots = (self.random.random(len(self.chain)) * self.number).astype(int)
        return slots[:, None], np.where(self.number > 0, 0.0, -np.inf)

    def _anywhere(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        radius = self.random.uniform(self.laws.inner, self.laws.outer, shape)
        angle = self.random.uniform(0, 2 * np.pi, shape)
        return radius * np.cos(angle), radius * np.sin(angle)

    def _law(self, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Log of the prior's density of some masses (C, m) over that of others, together (C,)."""
        inside = ((new >= self.laws.low) & (new <= self.laws.high)).all(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # of places that are empty
            log = self.laws.slope * np.log(new / old).sum(axis=1)
        odds: np.ndarray = np.where(inside, log, -np.inf)
        return odds
