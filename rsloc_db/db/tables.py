"""The tables, declared once; the migrations are proven equal to them by a test.

Geometries are EPSG:4326 with GiST indexes; metres come from ``geography``. Data flows one way:
gallery -> tile -> embedding; query -> patch -> hit -> clique -> place -> match -> localization. Every row of the
second chain belongs to a run. Truth lies apart and only evaluation reads it.
"""

from __future__ import annotations

from geoalchemy2 import Geometry
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _layer(comment: str) -> Column[int]:
    return Column("layer", SmallInteger, nullable=False, server_default="0", comment=comment)


def _geometry(kind: str) -> Geometry:
    return Geometry(kind, srid=4326, spatial_index=False)


def _gist(table: str, column: str) -> Index:
    return Index(f"{table}_{column}_idx", column, postgresql_using="gist")


def _created() -> Column[object]:
    return Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment="When the row was written",
    )


gallery = Table(
    "gallery",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True, comment="Key"),
    Column("name", Text, nullable=False, unique=True, comment="Name, as used in commands"),
    Column("grid", Text, nullable=False, comment="Tile grid: google_earth (EPSG:4326 quadtree) or web_mercator (XYZ)"),
    Column("source_kind", Text, nullable=False, comment="Reader of the source: ge_tiles, mbtiles, xyz or raster"),
    Column("source", Text, nullable=False, comment="Path of the source it was ingested from last"),
    Column(
        "images",
        Text,
        nullable=False,
        comment="Where tile images are: stored (in tile_image) or reference (in the source)",
    ),
    Column("attribution", Text, nullable=False, server_default="", comment="Whose imagery it is"),
    Column(
        "status",
        Text,
        nullable=False,
        server_default="loading",
        comment="loading until tiles, embeddings and indexes are complete, then ready",
    ),
    _created(),
    CheckConstraint("grid IN ('google_earth', 'web_mercator')", name="grid"),
    CheckConstraint("images IN ('stored', 'reference')", name="images"),
    CheckConstraint("status IN ('loading', 'ready')", name="status"),
    comment="A set of georeferenced tiles that queries are searched in",
)

tile = Table(
    "tile",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    Column("gallery_id", ForeignKey("gallery.id", ondelete="CASCADE"), nullable=False, comment="Its gallery"),
    Column("level", SmallInteger, nullable=False, comment="Level of the grid: 2^level cells per axis"),
    Column("tile_column", Integer, nullable=False, comment="Column of the grid, eastward from -180"),
    Column("tile_row", Integer, nullable=False, comment="Row of the grid, downward from the top"),
    Column("captured_at", DateTime(timezone=True), comment="Date of the image (UTC); null where the source has none"),
    Column("footprint", _geometry("POLYGON"), nullable=False, comment="Area that the tile covers"),
    Column("center", _geometry("POINT"), nullable=False, comment="Middle of the footprint in degrees"),
    UniqueConstraint(
        "gallery_id", "level", "tile_row", "tile_column", "captured_at", postgresql_nulls_not_distinct=True
    ),
    _gist("tile", "footprint"),
    _gist("tile", "center"),
    comment="A tile of a gallery: one cell at one date",
)

tile_image = Table(
    "tile_image",
    metadata,
    Column("tile_id", ForeignKey("tile.id", ondelete="CASCADE"), primary_key=True, comment="Its tile"),
    Column("data", LargeBinary, nullable=False, comment="The encoded image as the source holds it (JPEG, PNG or WebP)"),
    comment="Pixels of tiles of galleries whose images are stored",
)

ingest_failure = Table(
    "ingest_failure",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    Column(
        "gallery_id", ForeignKey("gallery.id", ondelete="CASCADE"), nullable=False, index=True, comment="Its gallery"
    ),
    Column("name", Text, nullable=False, comment="Which tile: level_column_row and its date"),
    Column("reason", Text, nullable=False, comment="Why it was skipped"),
    _created(),
    UniqueConstraint("gallery_id", "name"),
    comment="Tiles of a source that could not be used",
)

gradient_block = Table(
    "gradient_block",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    Column("gallery_id", ForeignKey("gallery.id", ondelete="CASCADE"), nullable=False, comment="Its gallery"),
    Column("level", SmallInteger, nullable=False, comment="Level of its tiles"),
    _layer("Which date of each cell: 0 for the newest, 1 for the one before it, and so on, or the oldest"),
    Column(
        "pool",
        SmallInteger,
        nullable=False,
        server_default="1",
        comment="How many cells a side are averaged into one: 1, in overviews 2 or 4",
    ),
    Column("block_column", Integer, nullable=False, comment="Column of its first tile / (8 pool)"),
    Column("block_row", Integer, nullable=False, comment="Row of its first tile / (8 pool)"),
    Column("footprint", _geometry("POLYGON"), nullable=False, comment="Area of its tiles, 8 pool a side"),
    Column("tiles", Integer, nullable=False, comment="How many tiles it was made from: all of the block at that time"),
    Column(
        "maps",
        LargeBinary,
        nullable=False,
        comment="Oriented-gradient maps: 6 x 128 x 128 int8, 127 for 1, a value for 16 pool px a side",
    ),
    Column(
        "cover",
        LargeBinary,
        nullable=False,
        comment="Which of the 128 x 128 cells are imagery: one bit each, row by row",
    ),
    UniqueConstraint(
        *("gallery_id", "level", "layer", "pool", "block_row", "block_column"),
        name="gradient_block_gallery_id_level_layer_key",
    ),
    _gist("gradient_block", "footprint"),
    comment="Where edges run in blocks of tiles: what candidates and whole galleries are correlated with",
)

model = Table(
    "model",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True, comment="Key"),
    Column("name", Text, nullable=False, comment="Name in the registry of models"),
    Column("weights_hash", Text, nullable=False, comment="SHA-256 of its weights"),
    Column("dimensions", Integer, nullable=False, comment="Length of its vectors"),
    UniqueConstraint("name", "weights_hash"),
    comment="A model that turns a window into a vector",
)

embedding_set = Table(
    "embedding_set",
    metadata,
    Column(
        "id",
        Integer,
        Identity(always=True),
        primary_key=True,
        comment="Key; its vectors are in the partition embedding_<id>",
    ),
    Column("gallery_id", ForeignKey("gallery.id", ondelete="CASCADE"), nullable=False, comment="Its gallery"),
    Column("model_id", ForeignKey("model.id"), nullable=False, comment="Its model"),
    Column("level", SmallInteger, nullable=False, comment="Level of its tiles"),
    Column(
        "window_tiles",
        SmallInteger,
        nullable=False,
        comment="Width of the embedded window in tiles: n wide, n cos(latitude) high, about the tile's centre",
    ),
    Column("index_kind", Text, comment="exact (no index; every row is compared) or hnsw; null until complete"),
    UniqueConstraint("gallery_id", "model_id", "level", "window_tiles"),
    CheckConstraint("index_kind IN ('exact', 'hnsw')", name="index_kind"),
    comment="The embeddings of one gallery level by one model with one window width",
)

embedding = Table(
    "embedding",
    metadata,
    Column("set_id", ForeignKey("embedding_set.id", ondelete="CASCADE"), nullable=False, comment="Its embedding set"),
    Column("tile_id", ForeignKey("tile.id", ondelete="CASCADE"), nullable=False, comment="Its tile"),
    Column("vector", HALFVEC(), nullable=False, comment="Unit vector of the window around the tile"),
    # tile first: deleting a tile looks here by tile alone
    PrimaryKeyConstraint("tile_id", "set_id"),
    postgresql_partition_by="LIST (set_id)",
    comment="Vectors of tile windows, one partition an embedding set",
)

query = Table(
    "query",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    Column("query_set", Text, nullable=False, comment="Set: the folder's or the file's own name"),
    Column("name", Text, nullable=False, comment="File name, exact to the letter"),
    Column("path", Text, nullable=False, comment="Where the file was"),
    Column("content_hash", Text, nullable=False, comment="SHA-256 of the file"),
    Column("width_px", Integer, comment="Width; null when it could not be read"),
    Column("height_px", Integer, comment="Height; null when it could not be read"),
    UniqueConstraint("query_set", "name"),
    comment="An image whose place is asked for",
)

query_truth = Table(
    "query_truth",
    metadata,
    Column("query_id", ForeignKey("query.id", ondelete="CASCADE"), primary_key=True, comment="Its query"),
    Column("center", _geometry("POINT"), comment="True place of the centre pixel; null: the place is in no gallery"),
    Column("footprint", _geometry("MULTIPOLYGON"), comment="True footprint, where known"),
    Column(
        "corners", _geometry("MULTIPOINT"), comment="True corners: upper left, upper right, lower right, lower left"
    ),
    Column("provider", Text, nullable=False, server_default="", comment="Whose image it is"),
    Column("landscape", Text, nullable=False, server_default="", comment="urban, non-urban or empty"),
    Column(
        "simulated",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether its appearance was made by a program",
    ),
    Column("source", Text, nullable=False, comment="File that the truth was read from"),
    _gist("query_truth", "center"),
    comment="Where queries really are. Evaluation alone reads this table",
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True, comment="Key"),
    Column("query_set", Text, nullable=False, comment="What was localized"),
    Column(
        "settings",
        JSONB,
        nullable=False,
        comment="All options that decide the result; model (name), embedding_sets (ids searched) and within (GeoJSON) among them",
    ),
    Column(
        "settings_hash",
        Text,
        nullable=False,
        comment="SHA-256 of settings, queries, galleries and code: equal hash, same run",
    ),
    Column("code_version", Text, nullable=False, comment="Version of the package"),
    Column("finished_at", DateTime(timezone=True), comment="When its last query was done; null while it goes on"),
    _created(),
    comment="One localization of a query set under one configuration",
)

run_query = Table(
    "run_query",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False, unique=True, comment="Key for views"),
    Column("run_id", ForeignKey("run.id", ondelete="CASCADE"), nullable=False, comment="Its run"),
    Column("query_id", ForeignKey("query.id", ondelete="CASCADE"), nullable=False, comment="Its query"),
    Column("status", Text, nullable=False, server_default="pending", comment="pending, done or failed"),
    Column("retrieve_s", REAL, comment="Seconds of retrieval, embedding included"),
    Column("cliques_s", REAL, comment="Seconds of the clique search"),
    Column("verify_s", REAL, comment="Seconds of verification"),
    Column("refine_s", REAL, comment="Seconds of refinement"),
    Column("total_s", REAL, comment="Seconds in all, reading included"),
    Column("peak_memory_mb", REAL, comment="Largest resident memory of its process up to its end, megabytes"),
    PrimaryKeyConstraint("run_id", "query_id"),
    CheckConstraint("status IN ('pending', 'done', 'failed')", name="status"),
    Index("run_query_query_id_idx", "query_id"),
    comment="Which queries belong to a run and how far each is: rerun = resume",
)


def _of_run() -> list[Column[object]]:
    return [
        Column("run_id", Integer, nullable=False, comment="Its run"),
        Column("query_id", BigInteger, nullable=False, comment="Its query"),
    ]


def _pose() -> list[Column[object]]:
    return [
        Column(
            "turn_deg",
            REAL,
            nullable=False,
            server_default="0",
            comment="Supposed direction of the query's upper edge, clockwise from north",
        ),
        Column(
            "zoom",
            REAL,
            nullable=False,
            server_default="1",
            comment="Supposed size of the query's pixel, as a multiple of the stated one",
        ),
    ]


def _run_key() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["run_id", "query_id"], ["run_query.run_id", "run_query.query_id"], ondelete="CASCADE")


patch = Table(
    "patch",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    *_of_run(),
    Column("level", SmallInteger, nullable=False, comment="Level of the tiles it is compared with"),
    Column("window_tiles", SmallInteger, nullable=False, comment="Width of the window it is compared with, in tiles"),
    Column("x_px", REAL, nullable=False, comment="Its centre in the query, from the left edge"),
    Column("y_px", REAL, nullable=False, comment="Its centre in the query, from the top edge"),
    Column("width_px", REAL, nullable=False, comment="Its width in the query"),
    Column("height_px", REAL, nullable=False, comment="Its height in the query"),
    Column(
        "east_offset",
        Double,
        nullable=False,
        comment="From the query's centre to the patch's, eastward, in the query's unit (Mercator metres, ground metres or degrees)",
    ),
    Column("north_offset", Double, nullable=False, comment="The same, northward"),
    Column("min_abs_lat_deg", REAL, nullable=False, comment="Its scale suits tiles from this absolute latitude"),
    Column("max_abs_lat_deg", REAL, nullable=False, comment="Its scale suits tiles up to this absolute latitude"),
    Column("vector", HALFVEC(), nullable=False, comment="Unit vector of the patch"),
    *_pose(),
    _run_key(),
    Index("patch_run_id_query_id_idx", "run_id", "query_id"),
    comment="A square on the ground cut from a query and embedded",
)

hit = Table(
    "hit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    # no foreign key: the patch has it, and a hit is never of another query than its patch
    *_of_run(),
    Column("patch_id", ForeignKey("patch.id", ondelete="CASCADE"), nullable=False, index=True, comment="Its patch"),
    # no foreign key: a run's history outlives the gallery, and a check per hit would cost more than the search
    Column("gallery_id", Integer, nullable=False, comment="The gallery of that tile"),
    Column("tile_id", BigInteger, nullable=False, comment="The tile that was found"),
    Column("rank", SmallInteger, nullable=False, comment="1 for the most similar tile of its patch"),
    Column("similarity", REAL, nullable=False, comment="Cosine of the angle between the two vectors"),
    Column("vote", _geometry("POINT"), nullable=False, comment="Where the query's centre lies if this hit is right"),
    Index("hit_run_id_query_id_idx", "run_id", "query_id"),
    _gist("hit", "vote"),
    comment="A tile that resembles a patch, and its vote for the query's place",
)

clique = Table(
    "clique",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    *_of_run(),
    Column("gallery_id", Integer, nullable=False, comment="The gallery its tiles are of"),
    Column("level", SmallInteger, nullable=False, comment="Level of its tiles"),
    Column("rank", Integer, nullable=False, comment="1 for the least likely to have come about by chance"),
    Column(
        "score", Double, nullable=False, comment="Log-likelihood ratio of its hits against the local density of votes"
    ),
    Column("patches", Integer, nullable=False, comment="How many patches agree"),
    Column("center", _geometry("POINT"), nullable=False, comment="Where they put the query's centre"),
    *_pose(),
    _run_key(),
    Index("clique_run_id_query_id_idx", "run_id", "query_id"),
    _gist("clique", "center"),
    comment="Hits of distinct patches whose votes agree in space",
)

clique_hit = Table(
    "clique_hit",
    metadata,
    Column("clique_id", ForeignKey("clique.id", ondelete="CASCADE"), nullable=False, comment="The clique"),
    Column("hit_id", ForeignKey("hit.id", ondelete="CASCADE"), nullable=False, comment="A hit of it"),
    PrimaryKeyConstraint("clique_id", "hit_id"),
    Index("clique_hit_hit_id_idx", "hit_id"),
    comment="Which hits form a clique",
)

place = Table(
    "place",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    *_of_run(),
    Column(
        "clique_id", ForeignKey("clique.id", ondelete="SET NULL"), index=True, comment="The clique it was verified from"
    ),
    Column("gallery_id", Integer, nullable=False, comment="The gallery it was verified against"),
    Column("level", SmallInteger, nullable=False, comment="Level of the tiles it was verified against"),
    _layer("Which date of these tiles: 0 for the newest, 1 for the one before it, and so on, or the oldest"),
    Column("rank", Integer, nullable=False, comment="1 for the place with the most evidence"),
    Column(
        "correlation",
        Double,
        nullable=False,
        comment="Normalised correlation of gradient maps over the whole query, -1 to 1",
    ),
    Column(
        "evidence", Double, nullable=False, comment="-log10 of the number of false alarms; nan-free; greater is surer"
    ),
    Column("center", _geometry("POINT"), nullable=False, comment="Where the query's centre pixel would lie"),
    Column("footprint", _geometry("MULTIPOLYGON"), nullable=False, comment="What the query would cover"),
    *_pose(),
    _run_key(),
    Index("place_run_id_query_id_idx", "run_id", "query_id"),
    _gist("place", "center"),
    _gist("place", "footprint"),
    comment="A candidate place after verification against the gallery's pixels",
)

match = Table(
    "match",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    *_of_run(),
    Column(
        "place_id",
        ForeignKey("place.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="The place it was found at",
    ),
    Column("x_px", REAL, nullable=False, comment="Point in the query, from the left edge"),
    Column("y_px", REAL, nullable=False, comment="Point in the query, from the top edge"),
    Column("location", _geometry("POINT"), nullable=False, comment="The same point in the gallery"),
    Column("score", REAL, nullable=False, comment="Peak of the block's correlation, -1 to 1"),
    Column("residual_m", REAL, nullable=False, comment="Ground distance from where the fitted transform puts it"),
    Column("inlier", Boolean, nullable=False, comment="Whether it agrees with the fitted transform"),
    _run_key(),
    Index("match_run_id_query_id_idx", "run_id", "query_id"),
    _gist("match", "location"),
    comment="A block of the query found in the gallery, with its own shift",
)

localization = Table(
    "localization",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Key"),
    *_of_run(),
    Column("place_id", ForeignKey("place.id", ondelete="SET NULL"), index=True, comment="The place that was chosen"),
    Column("verdict", Text, nullable=False, comment="accepted, ambiguous, not_here or failed"),
    Column("reason", Text, nullable=False, comment="Why, in one sentence"),
    Column("confidence", Double, comment="Estimated probability that the place is right, 0 to 1; null when failed"),
    Column(
        "center", _geometry("POINT"), comment="Place of the query's centre pixel; null unless accepted or ambiguous"
    ),
    Column("footprint", _geometry("MULTIPOLYGON"), comment="What the query covers"),
    Column("ellipse", _geometry("POLYGON"), comment="95 % ellipse of the centre"),
    Column("ellipse_a_m", Double, comment="Semi-major axis of the 95 % ellipse, ground metres"),
    Column("ellipse_b_m", Double, comment="Semi-minor axis of the 95 % ellipse, ground metres"),
    Column("ellipse_azimuth_deg", Double, comment="Direction of the semi-major axis, clockwise from north"),
    Column(
        "transform",
        ARRAY(Double),
        comment="a, b, c, d, e, f: X = a x + b y + c, Y = d x + e y + f, from pixels (upper left corner of the image is 0, 0) to transform_srid",
    ),
    Column("transform_srid", Integer, comment="EPSG code that the transform leads to"),
    Column("corners", _geometry("MULTIPOINT"), comment="Corners: upper left, upper right, lower right, lower left"),
    UniqueConstraint("run_id", "query_id"),
    _run_key(),
    CheckConstraint("verdict IN ('accepted', 'ambiguous', 'not_here', 'failed')", name="verdict"),
    _gist("localization", "center"),
    _gist("localization", "footprint"),
    comment="The answer for a query: where, how sure, or not here",
)
