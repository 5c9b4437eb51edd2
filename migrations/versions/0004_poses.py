"""Say in which turn and zoom patches, cliques and places see their query; have gradient maps made anew.

The maps of before compared cells with the whole block, those of now with their surroundings: a template of one kind says
nothing on the other. Galleries wait for their ingest to be run again, which makes the maps alone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("patch", "clique", "place")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(
            table,
            sa.Column(
                "turn_deg",
                sa.REAL(),
                server_default="0",
                nullable=False,
                comment="Supposed direction of the query's upper edge, clockwise from north",
            ),
        )
        op.add_column(
            table,
            sa.Column(
                "zoom",
                sa.REAL(),
                server_default="1",
                nullable=False,
                comment="Supposed size of the query's pixel, as a multiple of the stated one",
            ),
        )
    _forget_maps()


def _forget_maps() -> None:
    op.execute("UPDATE gallery SET status = 'loading' WHERE id IN (SELECT gallery_id FROM gradient_block)")
    op.execute("DELETE FROM gradient_block")


def downgrade() -> None:
    _forget_maps()
    for table in TABLES:
        op.drop_column(table, "zoom")
        op.drop_column(table, "turn_deg")
