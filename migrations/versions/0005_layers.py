"""Keep gradient maps of several dates, and say against which of them a place was verified.

The maps of before took the noise of open water for structure, and were of the newest dates alone: galleries wait for
their ingest to be run again, which makes the maps anew and nothing else.
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


def _forget_maps() -> None:
    op.execute("UPDATE gallery SET status = 'loading' WHERE id IN (SELECT gallery_id FROM gradient_block)")
    op.execute("DELETE FROM gradient_block")


def upgrade() -> None:
    _forget_maps()
    for table, comment in LAYERS.items():
        op.add_column(table, sa.Column("layer", sa.SmallInteger(), server_default="0", nullable=False, comment=comment))
    op.drop_constraint(ONE_DATE, "gradient_block", type_="unique")
    op.create_unique_constraint(
        MANY_DATES, "gradient_block", ["gallery_id", "level", "layer", "block_row", "block_column"]
    )


def downgrade() -> None:
    _forget_maps()
    op.drop_constraint(MANY_DATES, "gradient_block", type_="unique")
    for table in LAYERS:
        op.drop_column(table, "layer")
    op.create_unique_constraint(ONE_DATE, "gradient_block", ["gallery_id", "level", "block_row", "block_column"])
