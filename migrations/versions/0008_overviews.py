"""Keep overviews of gradient maps as blocks of their own, four and sixteen times as large, in place of one in each block.

A search of a whole gallery then reads a quarter or a sixteenth of the rows. Galleries made before stay in the search:
what they lack is averaged as it is read, until their ingest is run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = "gradient_block_gallery_id_level_layer_key"
OVERVIEW = (
    "The maps averaged over 2 x 2 cells that are imagery: 6 x 64 x 64 int8; null where ingest has not made it yet"
)
POOL = "How many cells a side are averaged into one: 1, in overviews 2 or 4"
TABLE = (
    "Where edges run in 8 x 8 tiles: what candidates and whole galleries are correlated with",
    "Where edges run in blocks of tiles: what candidates and whole galleries are correlated with",
)
COMMENTS = {
    "block_column": ("Column of its first tile / 8", "Column of its first tile / (8 pool)"),
    "block_row": ("Row of its first tile / 8", "Row of its first tile / (8 pool)"),
    "footprint": ("Area of its 8 x 8 tiles", "Area of its tiles, 8 pool a side"),
    "maps": (
        "Oriented-gradient maps: 6 x 128 x 128 int8, 127 for 1, a value for 16 x 16 px",
        "Oriented-gradient maps: 6 x 128 x 128 int8, 127 for 1, a value for 16 pool px a side",
    ),
}


def _rename(new: bool) -> None:
    for column, comments in COMMENTS.items():
        op.alter_column("gradient_block", column, comment=comments[new], existing_comment=comments[not new])
    op.create_table_comment("gradient_block", TABLE[new], existing_comment=TABLE[not new])


def upgrade() -> None:
    column = sa.Column("pool", sa.SmallInteger(), server_default="1", nullable=False, comment=POOL)
    op.add_column("gradient_block", column)
    op.drop_constraint(KEY, "gradient_block", type_="unique")
    op.create_unique_constraint(
        KEY, "gradient_block", ["gallery_id", "level", "layer", "pool", "block_row", "block_column"]
    )
    op.drop_column("gradient_block", "overview")
    _rename(True)


def downgrade() -> None:
    op.execute("DELETE FROM gradient_block WHERE pool > 1")
    op.drop_constraint(KEY, "gradient_block", type_="unique")
    op.drop_column("gradient_block", "pool")
    op.create_unique_constraint(KEY, "gradient_block", ["gallery_id", "level", "layer", "block_row", "block_column"])
    op.add_column("gradient_block", sa.Column("overview", sa.LargeBinary(), comment=OVERVIEW))
    op.execute("ALTER TABLE gradient_block ALTER COLUMN overview SET STORAGE EXTERNAL")
    _rename(False)
