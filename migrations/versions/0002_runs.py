"""Make the tables of queries and runs: query and its truth, run, and what each stage finds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _geometry(kind: str) -> Geometry:
    return Geometry(kind, srid=4326, spatial_index=False)


def _gist(table: str, column: str) -> None:
    op.create_index(f"{table}_{column}_idx", table, [column], postgresql_using="gist")


def _create_query() -> None:
    op.create_table(
        "query",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("query_set", sa.Text(), nullable=False, comment="Set: the folder's or the file's own name"),
        sa.Column("name", sa.Text(), nullable=False, comment="File name, exact to the letter"),
        sa.Column("path", sa.Text(), nullable=False, comment="Where the file was"),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="SHA-256 of the file"),
        sa.Column("width_px", sa.Integer(), comment="Width; null when it could not be read"),
        sa.Column("height_px", sa.Integer(), comment="Height; null when it could not be read"),
        sa.PrimaryKeyConstraint("id", name="query_pkey"),
        sa.UniqueConstraint("query_set", "name", name="query_query_set_name_key"),
        comment="An image whose place is asked for",
    )


def _create_query_truth() -> None:
    op.create_table(
        "query_truth",
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column(
            "center", _geometry("POINT"), comment="True place of the centre pixel; null: the place is in no gallery"
        ),
        sa.Column("footprint", _geometry("MULTIPOLYGON"), comment="True footprint, where known"),
        sa.Column(
            "corners", _geometry("MULTIPOINT"), comment="True corners: upper left, upper right, lower right, lower left"
        ),
        sa.Column("provider", sa.Text(), server_default="", nullable=False, comment="Whose image it is"),
        sa.Column("landscape", sa.Text(), server_default="", nullable=False, comment="urban, non-urban or empty"),
        sa.Column(
            "simulated",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether its appearance was made by a program",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="File that the truth was read from"),
        sa.ForeignKeyConstraint(["query_id"], ["query.id"], name="query_truth_query_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("query_id", name="query_truth_pkey"),
        comment="Where queries really are. Evaluation alone reads this table",
    )
    _gist("query_truth", "center")


def _create_run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("query_set", sa.Text(), nullable=False, comment="What was localized"),
        sa.Column(
            "settings",
            JSONB(),
            nullable=False,
            comment="All options that decide the result; model (name), embedding_sets (ids searched) and within (GeoJSON) among them",
        ),
        sa.Column(
            "settings_hash",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of settings, queries, galleries and code: equal hash, same run",
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="Version of the package"),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), comment="When its last query was done; null while it goes on"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.PrimaryKeyConstraint("id", name="run_pkey"),
        comment="One localization of a query set under one configuration",
    )


def _create_run_query() -> None:
    op.create_table(
        "run_query",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key for views"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False, comment="pending, done or failed"),
        sa.Column("retrieve_s", sa.REAL(), comment="Seconds of retrieval, embedding included"),
        sa.Column("cliques_s", sa.REAL(), comment="Seconds of the clique search"),
        sa.Column("verify_s", sa.REAL(), comment="Seconds of verification"),
        sa.Column("refine_s", sa.REAL(), comment="Seconds of refinement"),
        sa.Column("total_s", sa.REAL(), comment="Seconds in all, reading included"),
        sa.Column(
            "peak_memory_mb", sa.REAL(), comment="Largest resident memory of its process up to its end, megabytes"
        ),
        sa.CheckConstraint("status IN ('pending', 'done', 'failed')", name=op.f("run_query_status_check")),
        sa.ForeignKeyConstraint(["query_id"], ["query.id"], name="run_query_query_id_fkey", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="run_query_run_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "query_id", name="run_query_pkey"),
        sa.UniqueConstraint("id", name="run_query_id_key"),
        comment="Which queries belong to a run and how far each is: rerun = resume",
    )
    op.create_index("run_query_query_id_idx", "run_query", ["query_id"])


def _create_patch() -> None:
    op.create_table(
        "patch",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of the tiles it is compared with"),
        sa.Column(
            "window_tiles",
            sa.SmallInteger(),
            nullable=False,
            comment="Width of the window it is compared with, in tiles",
        ),
        sa.Column("x_px", sa.REAL(), nullable=False, comment="Its centre in the query, from the left edge"),
        sa.Column("y_px", sa.REAL(), nullable=False, comment="Its centre in the query, from the top edge"),
        sa.Column("width_px", sa.REAL(), nullable=False, comment="Its width in the query"),
        sa.Column("height_px", sa.REAL(), nullable=False, comment="Its height in the query"),
        sa.Column(
            "east_offset",
            sa.Double(),
            nullable=False,
            comment="From the query's centre to the patch's, eastward, in the query's unit (Mercator metres, ground metres or degrees)",
        ),
        sa.Column("north_offset", sa.Double(), nullable=False, comment="The same, northward"),
        sa.Column(
            "min_abs_lat_deg", sa.REAL(), nullable=False, comment="Its scale suits tiles from this absolute latitude"
        ),
        sa.Column(
            "max_abs_lat_deg", sa.REAL(), nullable=False, comment="Its scale suits tiles up to this absolute latitude"
        ),
        sa.Column("vector", HALFVEC(), nullable=False, comment="Unit vector of the patch"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="patch_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="patch_pkey"),
        comment="A square on the ground cut from a query and embedded",
    )
    op.create_index("patch_run_id_query_id_idx", "patch", ["run_id", "query_id"])


def _create_hit() -> None:
    op.create_table(
        "hit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("patch_id", sa.BigInteger(), nullable=False, comment="Its patch"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="The gallery of that tile"),
        sa.Column("tile_id", sa.BigInteger(), nullable=False, comment="The tile that was found"),
        sa.Column("rank", sa.SmallInteger(), nullable=False, comment="1 for the most similar tile of its patch"),
        sa.Column("similarity", sa.REAL(), nullable=False, comment="Cosine of the angle between the two vectors"),
        sa.Column(
            "vote", _geometry("POINT"), nullable=False, comment="Where the query's centre lies if this hit is right"
        ),
        sa.ForeignKeyConstraint(["patch_id"], ["patch.id"], name="hit_patch_id_fkey", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="hit_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="hit_pkey"),
        comment="A tile that resembles a patch, and its vote for the query's place",
    )
    op.create_index("hit_patch_id_idx", "hit", ["patch_id"])
    op.create_index("hit_run_id_query_id_idx", "hit", ["run_id", "query_id"])
    _gist("hit", "vote")


def _create_clique() -> None:
    op.create_table(
        "clique",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="The gallery its tiles are of"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of its tiles"),
        sa.Column("rank", sa.Integer(), nullable=False, comment="1 for the least likely to have come about by chance"),
        sa.Column(
            "score",
            sa.Double(),
            nullable=False,
            comment="Log-likelihood ratio of its hits against the local density of votes",
        ),
        sa.Column("patches", sa.Integer(), nullable=False, comment="How many patches agree"),
        sa.Column("center", _geometry("POINT"), nullable=False, comment="Where they put the query's centre"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="clique_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="clique_pkey"),
        comment="Hits of distinct patches whose votes agree in space",
    )
    _gist("clique", "center")
    op.create_index("clique_run_id_query_id_idx", "clique", ["run_id", "query_id"])


def _create_clique_hit() -> None:
    op.create_table(
        "clique_hit",
        sa.Column("clique_id", sa.BigInteger(), nullable=False, comment="The clique"),
        sa.Column("hit_id", sa.BigInteger(), nullable=False, comment="A hit of it"),
        sa.ForeignKeyConstraint(["clique_id"], ["clique.id"], name="clique_hit_clique_id_fkey", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["hit_id"], ["hit.id"], name="clique_hit_hit_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("clique_id", "hit_id", name="clique_hit_pkey"),
        comment="Which hits form a clique",
    )
    op.create_index("clique_hit_hit_id_idx", "clique_hit", ["hit_id"])


def _create_place() -> None:
    op.create_table(
        "place",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("clique_id", sa.BigInteger(), comment="The clique it was verified from"),
        sa.Column("gallery_id", sa.Integer(), nullable=False, comment="The gallery it was verified against"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="Level of the tiles it was verified against"),
        sa.Column("rank", sa.Integer(), nullable=False, comment="1 for the place with the most evidence"),
        sa.Column(
            "correlation",
            sa.Double(),
            nullable=False,
            comment="Normalised correlation of gradient maps over the whole query, -1 to 1",
        ),
        sa.Column(
            "evidence",
            sa.Double(),
            nullable=False,
            comment="-log10 of the number of false alarms; nan-free; greater is surer",
        ),
        sa.Column("center", _geometry("POINT"), nullable=False, comment="Where the query's centre pixel would lie"),
        sa.Column("footprint", _geometry("MULTIPOLYGON"), nullable=False, comment="What the query would cover"),
        sa.ForeignKeyConstraint(["clique_id"], ["clique.id"], name="place_clique_id_fkey", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="place_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="place_pkey"),
        comment="A candidate place after verification against the gallery's pixels",
    )
    _gist("place", "center")
    op.create_index("place_clique_id_idx", "place", ["clique_id"])
    _gist("place", "footprint")
    op.create_index("place_run_id_query_id_idx", "place", ["run_id", "query_id"])


def _create_match() -> None:
    op.create_table(
        "match",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("place_id", sa.BigInteger(), nullable=False, comment="The place it was found at"),
        sa.Column("x_px", sa.REAL(), nullable=False, comment="Point in the query, from the left edge"),
        sa.Column("y_px", sa.REAL(), nullable=False, comment="Point in the query, from the top edge"),
        sa.Column("location", _geometry("POINT"), nullable=False, comment="The same point in the gallery"),
        sa.Column("score", sa.REAL(), nullable=False, comment="Peak of the block's correlation, -1 to 1"),
        sa.Column(
            "residual_m", sa.REAL(), nullable=False, comment="Ground distance from where the fitted transform puts it"
        ),
        sa.Column("inlier", sa.Boolean(), nullable=False, comment="Whether it agrees with the fitted transform"),
        sa.ForeignKeyConstraint(["place_id"], ["place.id"], name="match_place_id_fkey", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="match_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="match_pkey"),
        comment="A block of the query found in the gallery, with its own shift",
    )
    _gist("match", "location")
    op.create_index("match_place_id_idx", "match", ["place_id"])
    op.create_index("match_run_id_query_id_idx", "match", ["run_id", "query_id"])


def _create_localization() -> None:
    op.create_table(
        "localization",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Its run"),
        sa.Column("query_id", sa.BigInteger(), nullable=False, comment="Its query"),
        sa.Column("place_id", sa.BigInteger(), comment="The place that was chosen"),
        sa.Column("verdict", sa.Text(), nullable=False, comment="accepted, ambiguous, not_here or failed"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why, in one sentence"),
        sa.Column(
            "confidence", sa.Double(), comment="Estimated probability that the place is right, 0 to 1; null when failed"
        ),
        sa.Column(
            "center", _geometry("POINT"), comment="Place of the query's centre pixel; null unless accepted or ambiguous"
        ),
        sa.Column("footprint", _geometry("MULTIPOLYGON"), comment="What the query covers"),
        sa.Column("ellipse", _geometry("POLYGON"), comment="95 % ellipse of the centre"),
        sa.Column("ellipse_a_m", sa.Double(), comment="Semi-major axis of the 95 % ellipse, ground metres"),
        sa.Column("ellipse_b_m", sa.Double(), comment="Semi-minor axis of the 95 % ellipse, ground metres"),
        sa.Column("ellipse_azimuth_deg", sa.Double(), comment="Direction of the semi-major axis, clockwise from north"),
        sa.Column(
            "transform",
            sa.ARRAY(sa.Double()),
            comment="a, b, c, d, e, f: X = a x + b y + c, Y = d x + e y + f, from pixels (upper left corner of the image is 0, 0) to transform_srid",
        ),
        sa.Column("transform_srid", sa.Integer(), comment="EPSG code that the transform leads to"),
        sa.Column(
            "corners", _geometry("MULTIPOINT"), comment="Corners: upper left, upper right, lower right, lower left"
        ),
        sa.CheckConstraint(
            "verdict IN ('accepted', 'ambiguous', 'not_here', 'failed')", name=op.f("localization_verdict_check")
        ),
        sa.ForeignKeyConstraint(["place_id"], ["place.id"], name="localization_place_id_fkey", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["run_id", "query_id"],
            ["run_query.run_id", "run_query.query_id"],
            name="localization_run_id_query_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="localization_pkey"),
        sa.UniqueConstraint("run_id", "query_id", name="localization_run_id_query_id_key"),
        comment="The answer for a query: where, how sure, or not here",
    )
    _gist("localization", "center")
    _gist("localization", "footprint")
    op.create_index("localization_place_id_idx", "localization", ["place_id"])


def upgrade() -> None:
    """Make the tables, each after those it refers to."""
    _create_query()
    _create_query_truth()
    _create_run()
    _create_run_query()
    _create_patch()
    _create_hit()
    _create_clique()
    _create_clique_hit()
    _create_place()
    _create_match()
    _create_localization()


def downgrade() -> None:
    """Drop the tables with their indexes, each before those it refers to."""
    op.drop_table("localization")
    op.drop_table("match")
    op.drop_table("place")
    op.drop_table("clique_hit")
    op.drop_table("clique")
    op.drop_table("hit")
    op.drop_table("patch")
    op.drop_table("run_query")
    op.drop_table("run")
    op.drop_table("query_truth")
    op.drop_table("query")
