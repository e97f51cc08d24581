"""Simulation of images of strong lenses: presets, scenes drawn from them, and their rendering."""

from halometry.simulation.cosmology import einstein_radius
from halometry.simulation.instrument import list_instruments, load_instrument
from halometry.simulation.noise import observe
from halometry.simulation.online import OnlineImages
from halometry.simulation.preset import Preset, list_presets, load_preset, preset_text
from halometry.simulation.render import render, sample
from halometry.simulation.sampling import draw_scenes, scene_units
from halometry.simulation.scene import UNITS, Scene

__all__ = [
    "UNITS",
    "OnlineImages",
    "Preset",
    "Scene",
    "draw_scenes",
    "einstein_radius",
    "list_instruments",
    "list_presets",
    "load_instrument",
    "load_preset",
    "observe",
    "preset_text",
    "render",
    "sample",
    "scene_units",
]
