"""The demo: images that the project draws itself, a small backbone trained on other ones, and the way through."""

from kerasxfer.demo.images import draw_folder

__all__ = ["draw_folder"]
