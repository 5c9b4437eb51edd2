"""A drawn land without an end, which can be shown tile by tile: every pixel is a pure function of place and seed.

``rsloc_db.synthetic`` draws a land of fixed size, on which the default model was fitted; this one has no border.
"""

from rsloc_db.terrain.layout import Land, Layout, draw_layout, sea_share
from rsloc_db.terrain.noise import STEP_PX, Box
from rsloc_db.terrain.paint import SEASONS, SENSORS, Look, paint

__all__ = ["SEASONS", "SENSORS", "STEP_PX", "Box", "Land", "Layout", "Look", "draw_layout", "paint", "sea_share"]
