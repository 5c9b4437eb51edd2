"""Make the tables of galleries: gallery, tile and embedding."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry
from pgvector.sqlalchemy import HALFVEC

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _geometry(kind: str) -> Geometry:
    return Geometry(kind, srid=4326, spatial_index=False)


def _gist(table: str, column: str) -> None:
    op.create_index(f"{table}_{column}_idx", table, [column], postgresql_using="gist")


def _create_gallery() -> None:
    op.create_table(
        "gallery",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("name", sa.Text(), nullable=False, comment="Name, as used in commands"),
        sa.Column(
            "grid",
            sa.Text(),
            nullable=False,
            comment="Tile grid: google_earth (EPSG:4326 quadtree) or web_mercator (XYZ)",
        ),
        sa.Column(
            "source_kind", sa.Text(), nullable=False, comment="Reader of the source: ge_tiles, mbtiles, xyz or raster"
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Path of the source it was ingested from last"),
        sa.Column(
            "images",
            sa.Text(),
            nullable=False,
            comment="Where tile images are: stored (in tile_image) or reference (in the source)",
        ),
        sa.Column("attribution", sa.Text(), server_default="", nullable=False, comment="Whose imagery it is"),
        sa.Column(
            "status",
            sa.Text(),
            server_default="loading",
            nullable=False,
            comment="loading until tiles, embeddings and indexes are complete, then ready",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint("grid IN ('google_earth', 'web_mercator')", name=op.f("gallery_grid_check")),
        sa.CheckConstraint("images IN ('stored', 'reference')", name=op.f("gallery_images_check")),
        sa.CheckConstraint("status IN ('loading', 'ready')", name=op.f("gallery_status_check")),
        sa.PrimaryKeyConstraint("id", name="gallery_pkey"),
        sa.UniqueConstraint("name", name="gallery_name_key"),
        comment="A set of georeferenced tiles that queries are searched in",
    )


def _create_tile() -> None:
    op.create_table(
        "tile",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="Its gallery"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of the grid: 2^level cells per axis"),
        sa.Column("tile_column", sa.Integer(), nullable=False, comment="Column of the grid, eastward from -180"),
        sa.Column("tile_row", sa.Integer(), nullable=False, comment="Row of the grid, downward from the top"),
        sa.Column(
            "captured_at", sa.DateTime(timezone=True), comment="Date of the image (UTC); null where the source has none"
        ),
        sa.Column("footprint", _geometry("POLYGON"), nullable=False, comment="Area that the tile covers"),
        sa.Column("center", _geometry("POINT"), nullable=False, comment="Middle of the footprint in degrees"),
        sa.ForeignKeyConstraint(["gallery_id"], ["gallery.id"], name="tile_gallery_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="tile_pkey"),
        sa.UniqueConstraint(
            "gallery_id",
            "level",
            "tile_row",
            "tile_column",
            "captured_at",
            name="tile_gallery_id_level_tile_row_tile_column_captured_at_key",
            postgresql_nulls_not_distinct=True,
        ),
        comment="A tile of a gallery: one cell at one date",
    )
    _gist("tile", "center")
    _gist("tile", "footprint")


def _create_tile_image() -> None:
    op.create_table(
        "tile_image",
        sa.Column("tile_id", sa.BigInteger(), nullable=False, comment="Its tile"),
        sa.Column(
            "data",
            sa.LargeBinary(),
            nullable=False,
            comment="The encoded image as the source holds it (JPEG, PNG or WebP)",
        ),
        sa.ForeignKeyConstraint(["tile_id"], ["tile.id"], name="tile_image_tile_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tile_id", name="tile_image_pkey"),
        comment="Pixels of tiles of galleries whose images are stored",
    )


def _create_ingest_failure() -> None:
    op.create_table(
        "ingest_failure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="Its gallery"),
        sa.Column("name", sa.Text(), nullable=False, comment="Which tile: level_column_row and its date"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why it was skipped"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["gallery.id"], name="ingest_failure_gallery_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="ingest_failure_pkey"),
        sa.UniqueConstraint("gallery_id", "name", name="ingest_failure_gallery_id_name_key"),
        comment="Tiles of a source that could not be used",
    )
    op.create_index("ingest_failure_gallery_id_idx", "ingest_failure", ["gallery_id"])


def _create_model() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("name", sa.Text(), nullable=False, comment="Name in the registry of models"),
        sa.Column("weights_hash", sa.Text(), nullable=False, comment="SHA-256 of its weights"),
        sa.Column("dimensions", sa.Integer(), nullable=False, comment="Length of its vectors"),
        sa.PrimaryKeyConstraint("id", name="model_pkey"),
        sa.UniqueConstraint("name", "weights_hash", name="model_name_weights_hash_key"),
        comment="A model that turns a window into a vector",
    )


def _create_embedding_set() -> None:
    op.create_table(
        "embedding_set",
        sa.Column(
            "id",
            sa.Integer(),
            sa.Identity(always=True),
            nullable=False,
            comment="Key; its vectors are in the partition embedding_<id>",
        ),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="Its gallery"),
        sa.Column("model_id", sa.Integer(), nullable=False, comment="Its model"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of its tiles"),
        sa.Column(
            "window_tiles",
            sa.SmallInteger(),
            nullable=False,
            comment="Width of the embedded window in tiles: n wide, n cos(latitude) high, about the tile's centre",
        ),
        sa.Column(
            "index_kind", sa.Text(), comment="exact (no index; every row is compared) or hnsw; null until complete"
        ),
        sa.CheckConstraint("index_kind IN ('exact', 'hnsw')", name=op.f("embedding_set_index_kind_check")),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["gallery.id"], name="embedding_set_gallery_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="embedding_set_model_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="embedding_set_pkey"),
        sa.UniqueConstraint(
            "gallery_id",
            "model_id",
            "level",
            "window_tiles",
            name="embedding_set_gallery_id_model_id_level_window_tiles_key",
        ),
        comment="The embeddings of one gallery level by one model with one window width",
    )


def _create_embedding() -> None:
    op.create_table(
        "embedding",
        sa.Column("set_id", sa.Integer(), nullable=False, comment="Its embedding set"),
        sa.Column("tile_id", sa.BigInteger(), nullable=False, comment="Its tile"),
        sa.Column("vector", HALFVEC(), nullable=False, comment="Unit vector of the window around the tile"),
        sa.ForeignKeyConstraint(["set_id"], ["embedding_set.id"], name="embedding_set_id_fkey", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tile_id"], ["tile.id"], name="embedding_tile_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tile_id", "set_id", name="embedding_pkey"),
        comment="Vectors of tile windows, one partition an embedding set",
        postgresql_partition_by="LIST (set_id)",
    )


def upgrade() -> None:
    """Make the tables, each after those it refers to."""
    _create_gallery()
    _create_tile()
    _create_tile_image()
    _create_ingest_failure()
    _create_model()
    _create_embedding_set()
    _create_embedding()


def downgrade() -> None:
    """Drop the tables with their indexes, each before those it refers to."""
    op.drop_table("embedding")
    op.drop_table("embedding_set")
    op.drop_table("model")
    op.drop_table("ingest_failure")
    op.drop_table("tile_image")
    op.drop_table("tile")
    op.drop_table("gallery")
