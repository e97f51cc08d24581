"""What an image shows: presets, scenes drawn from them, and their rendering."""

from halometry.simulation.cosmology import einstein_radius
from halometry.simulation.draw import draw_scenes
from halometry.simulation.noise import observe
from halometry.simulation.preset import Preset, load_preset, preset_text, presets
from halometry.simulation.render import render, sample
from halometry.simulation.scene import UNITS, Scene

__all__ = [
    "UNITS",
    "Preset",
    "Scene",
    "draw_scenes",
    "einstein_radius",
    "load_preset",
    "observe",
    "preset_text",
    "presets",
    "render",
    "sample",
]
