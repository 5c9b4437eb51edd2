"""Keep gradient maps of several dates, and say against which of them a place was verified.

What is there is of the newest dates. Where cells have several, another run of `rsloc-db ingest` makes the maps of the
older ones.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LAYERS = {
    "gradient_block": "Which date of each cell: 0 for the newest, 1 for the one before it, and so on, or the oldest",
    "place": "Which date of these tiles: 0 for the newest, 1 for the one before it, and so on, or the oldest",
}
ONE_DATE = "gradient_block_gallery_id_level_block_row_block_column_key"
MANY_DATES = "gradient_block_gallery_id_level_layer_key"


def upgrade() -> None:
    for table, comment in LAYERS.items():
        op.add_column(table, sa.Column("layer", sa.SmallInteger(), server_default="0", nullable=False, comment=comment))
    op.drop_constraint(ONE_DATE, "gradient_block", type_="unique")
    op.create_unique_constraint(
        MANY_DATES, "gradient_block", ["gallery_id", "level", "layer", "block_row", "block_column"]
    )


def downgrade() -> None:
    op.execute("DELETE FROM gradient_block WHERE layer > 0")
    op.drop_constraint(MANY_DATES, "gradient_block", type_="unique")
    for table in LAYERS:
        op.drop_column(table, "layer")
    op.create_unique_constraint(ONE_DATE, "gradient_block", ["gallery_id", "level", "block_row", "block_column"])
