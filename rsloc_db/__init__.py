"""Find where an overhead image was taken."""

from importlib.metadata import version

__version__ = version("rsloc-db")
