"""Query images: which there are, how large their pixels are, and the pixels themselves.

Where a query really is lies beside it, in tags and CSVs. Nothing in this package reads that but
``rsloc_db.queries.truth``, which is for evaluation and is therefore not offered here.
"""

from rsloc_db.queries.images import content_hash, load_image
from rsloc_db.queries.sets import QueryFile, read_queries

__all__ = ["QueryFile", "content_hash", "load_image", "read_queries"]
