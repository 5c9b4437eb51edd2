"""Make the table of gradient maps, with which candidates and whole galleries are correlated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gradient_block",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="Its gallery"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of its tiles"),
        sa.Column("block_column", sa.Integer(), nullable=False, comment="Column of its first tile / 8"),
        sa.Column("block_row", sa.Integer(), nullable=False, comment="Row of its first tile / 8"),
        sa.Column(
            "footprint",
            Geometry("POLYGON", srid=4326, spatial_index=False),
            nullable=False,
            comment="Area of its 8 x 8 tiles",
        ),
        sa.Column(
            "tiles",
            sa.Integer(),
            nullable=False,
            comment="How many tiles it was made from: all of the block at that time",
        ),
        sa.Column(
            "maps",
            sa.LargeBinary(),
            nullable=False,
            comment="Oriented-gradient maps: 6 x 128 x 128 int8, 127 for 1, a value for 16 x 16 px",
        ),
        sa.Column(
            "cover",
            sa.LargeBinary(),
            nullable=False,
            comment="Which of the 128 x 128 cells are imagery: one bit each, row by row",
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["gallery.id"], name="gradient_block_gallery_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="gradient_block_pkey"),
        sa.UniqueConstraint(
            "gallery_id",
            "level",
            "block_row",
            "block_column",
            name="gradient_block_gallery_id_level_block_row_block_column_key",
        ),
        comment="Where edges run in 8 x 8 tiles: what candidates and whole galleries are correlated with",
    )
    op.create_index("gradient_block_footprint_idx", "gradient_block", ["footprint"], postgresql_using="gist")
    # the maps hardly shrink, and reading them is what a search waits for
    op.execute("ALTER TABLE gradient_block ALTER COLUMN maps SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("gradient_block")
