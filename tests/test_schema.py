"""The schema: migrations and declared tables agree, and people and QGIS can read it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from geoalchemy2 import WKTElement
from geoalchemy2.shape import to_shape

from rsloc_db.db import connection, schema, tables
from rsloc_db.db.connection import Connection, connect, parse_statements, require_schema, statement
from rsloc_db.errors import SchemaError, ServerError

OWN = """
SELECT c.oid, c.relname, c.relkind::text FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
  AND c.relname <> 'alembic_version'
"""

CATALOGUE = {
    "columns": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
               pg_get_expr(adbin, adrelid), col_description(c.oid, attnum)
        FROM own AS c JOIN pg_attribute AS a ON attrelid = c.oid
        LEFT JOIN pg_attrdef AS d ON (adrelid, adnum) = (attrelid, attnum)
        WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'v'""",
    "constraints": """
        SELECT relname, conname, pg_get_constraintdef(k.oid)
        FROM own AS c JOIN pg_constraint AS k ON conrelid = c.oid""",
    "indexes": "SELECT pg_get_indexdef(indexrelid) FROM own AS c JOIN pg_index ON indrelid = c.oid",
    "tables": """
        SELECT relname, obj_description(c.oid), pg_get_partkeydef(c.oid) FROM own AS c WHERE relkind <> 'v'""",
}


def _catalogue(conn: Connection) -> dict[str, set[tuple[object, ...]]]:
    return {name: set(conn.execute(f"WITH own AS ({OWN}) {text}").fetchall()) for name, text in CATALOGUE.items()}


def test_alembic_finds_no_difference_to_the_declared_tables(database_url: str) -> None:
    def ours(_item: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name == "spatial_ref_sys")

    options = {"include_object": ours, "compare_server_default": True}
    with schema.engine(database_url).connect() as conn:
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_migrated_and_declared_catalogues_are_equal(conn: Connection, empty_database_url: str) -> None:
    with connect(empty_database_url, autocommit=True) as declared:
        declared.execute("CREATE EXTENSION postgis; CREATE EXTENSION vector")
        tables.metadata.create_all(schema.engine(empty_database_url))
        migrated = _catalogue(conn)
        for part, expected in _catalogue(declared).items():
            assert migrated[part] ^ expected == set(), part


def test_upgrade_and_downgrade_round_trip(empty_database_url: str) -> None:
    assert schema.current(empty_database_url) is None
    schema.upgrade(empty_database_url)
    with connect(empty_database_url, autocommit=True) as conn:
        first = _catalogue(conn)
        views = conn.execute(f"SELECT count(*) FROM ({OWN}) AS own WHERE relkind = 'v'").fetchone()
        schema.downgrade(empty_database_url, "base")
        assert conn.execute(OWN).fetchall() == []
        schema.upgrade(empty_database_url, "0001")
        assert schema.current(empty_database_url) == "0001"
        with pytest.raises(SchemaError, match=r"has schema version 0001, expected .*db upgrade"):
            require_schema(conn)
        schema.upgrade(empty_database_url)
        assert _catalogue(conn) == first
        assert conn.execute(f"SELECT count(*) FROM ({OWN}) AS own WHERE relkind = 'v'").fetchone() == views


def test_an_upgrade_of_the_newest_schema_changes_nothing(conn: Connection, database_url: str) -> None:
    conn.execute("INSERT INTO query (query_set, name, path, content_hash) VALUES ('s', 'n', 'p', 'h')")
    conn.commit()
    before = _catalogue(conn)
    conn.commit()  # the views are remade, which waits for readers
    schema.upgrade(database_url)
    assert _catalogue(conn) == before
    assert conn.execute("SELECT name FROM query").fetchall() == [("n",)]


def test_two_upgrades_at_once_wait_for_each_other(empty_database_url: str) -> None:
    with ThreadPoolExecutor(1) as pool, psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (schema.UPGRADE_LOCK,))
        waiting = pool.submit(schema.upgrade, empty_database_url)
        while not conn.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone():
            assert not waiting.done()
        assert schema.current(empty_database_url) is None
        conn.execute("SELECT pg_advisory_unlock(%s)", (schema.UPGRADE_LOCK,))
        waiting.result()
    assert schema.current(empty_database_url) == connection.expected_version()


def test_expected_version_is_alembics_head() -> None:
    assert connection.expected_version() == ScriptDirectory.from_config(schema.config()).get_current_head()


def test_every_table_view_and_column_has_a_comment(conn: Connection) -> None:
    bare = conn.execute(
        f"WITH own AS ({OWN}) SELECT relname, attname FROM own JOIN pg_attribute ON attrelid = own.oid"
        " WHERE attnum > 0 AND NOT attisdropped AND col_description(own.oid, attnum) IS NULL"
        f" UNION ALL SELECT relname, NULL FROM ({OWN}) AS own WHERE obj_description(oid, 'pg_class') IS NULL"
    ).fetchall()
    assert bare == []


def test_geometries_are_typed_and_those_of_tables_indexed(conn: Connection) -> None:
    untyped = "SELECT f_table_name FROM geometry_columns WHERE srid <> 4326 OR type = 'GEOMETRY'"
    assert conn.execute(untyped).fetchall() == []
    bare = conn.execute(
        "SELECT relname, attname FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid"
        " WHERE relkind IN ('r', 'p') AND atttypid = 'geometry'::regtype AND NOT EXISTS ("
        " SELECT FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid JOIN pg_am AS am ON am.oid = i.relam"
        " WHERE indrelid = c.oid AND amname = 'gist' AND indkey[0] = attnum) ORDER BY 1, 2"
    ).fetchall()
    # shown or compared one by one, never searched in space
    unsearched = {("localization", "corners"), ("localization", "ellipse")}
    unsearched |= {("query_truth", "corners"), ("query_truth", "footprint")}
    assert set(bare) == unsearched


def test_every_view_has_an_integer_key_and_no_vector(conn: Connection) -> None:
    rows = conn.execute(
        f"SELECT relname, array_agg(attname::text), array_agg(atttypid::regtype::text)"
        f" FROM ({OWN}) AS own JOIN pg_attribute ON attrelid = oid WHERE relkind = 'v' GROUP BY relname"
    ).fetchall()
    assert len(rows) > 10
    for name, columns, types in rows:
        kinds = dict(zip(columns, types, strict=True))
        assert kinds.get("id") in ("integer", "bigint"), name
        assert not {"vector", "halfvec"} & set(types), name


def test_truth_is_read_by_evaluation_views_alone(conn: Connection) -> None:
    readers = conn.execute(
        "SELECT DISTINCT ev_class::regclass::text FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid"
        " WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = 'query_truth'::regclass"
    ).fetchall()
    assert {"evaluation_query", "evaluation_rank"} <= {name for (name,) in readers}
    assert all(name.startswith("evaluation_") for (name,) in readers)


def test_geoalchemy_and_psycopg_3_agree(database_url: str) -> None:
    point = WKTElement("POINT(179.5 -16.25)", srid=4326)
    square = "POLYGON((179 -17, 180 -17, 180 -16, 179 -16, 179 -17))"
    with schema.engine(database_url).begin() as conn:
        values = {"name": "g", "grid": "google_earth", "source_kind": "ge_tiles", "source": "x", "images": "stored"}
        gallery = conn.execute(sa.insert(tables.gallery).values(values).returning(tables.gallery.c.id)).scalar_one()
        place = {"level": 5, "tile_column": 31, "tile_row": 17, "center": point, "footprint": square}
        conn.execute(sa.insert(tables.tile).values(gallery_id=gallery, **place))
        inside = sa.select(tables.tile.c.center, tables.tile.c.footprint).where(
            tables.tile.c.footprint.ST_Intersects(point)
        )
        center, footprint = conn.execute(inside).one()
    assert (to_shape(center).x, to_shape(center).y, center.srid) == (179.5, -16.25, 4326)
    assert to_shape(footprint).area == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda conn: conn.execute("DROP TABLE alembic_version"), "no rsloc-db schema: run `rsloc-db db upgrade`"),
        (lambda conn: conn.execute("UPDATE alembic_version SET version_num = '9999'"), "9999.*newer rsloc-db"),
    ],
)
def test_require_schema_says_what_to_do(conn: Connection, spoil: Callable[[Connection], object], message: str) -> None:
    require_schema(conn)
    spoil(conn)
    with pytest.raises(SchemaError, match=message):
        require_schema(conn)


def test_a_newer_schema_is_left_alone(conn: Connection, database_url: str) -> None:
    conn.execute("UPDATE alembic_version SET version_num = '9999'")
    conn.commit()
    with pytest.raises(SchemaError, match=r"9999.*newer rsloc-db"):
        schema.upgrade(database_url)
    assert conn.execute("SELECT count(*) FROM evaluation_run").fetchone() == (0,)


@pytest.mark.parametrize(("version", "fine"), [("0.6.2", False), ("0.7.0", True), ("0.10.1", True), ("1.0", True)])
def test_pgvector_without_halfvec_is_refused(version: str, fine: bool) -> None:
    if fine:
        schema.require_pgvector(version)
    else:
        with pytest.raises(SchemaError, match=r"expected 0\.7"):
            schema.require_pgvector(version)


def test_connect_gives_utc_and_an_error_without_password(database_url: str) -> None:
    with connect(database_url) as conn:
        assert conn.execute("SHOW timezone").fetchone() == ("UTC",)
        assert not conn.autocommit
        assert conn.prepare_threshold is None
    with pytest.raises(ServerError, match=r"cannot reach the database 127.0.0.1:1/db") as caught:
        connect("postgresql://someone:geheim@127.0.0.1:1/db")
    assert "geheim" not in str(caught.value)
    with pytest.raises(ServerError, match="expected postgresql://") as caught:
        connect("postgresql://someone:geheim@[127.0.0.1:1/db")
    assert "geheim" not in str(caught.value)


def test_statements_are_named_and_commented() -> None:
    text = "-- about the file\n\n-- name: one\n-- What it does.\nSELECT 1;\n\n-- name: two\n-- Other.\nSELECT %(a)s;\n"
    assert dict(parse_statements(text, "x.sql")) == {
        "one": "-- What it does.\nSELECT 1",
        "two": "-- Other.\nSELECT %(a)s",
    }
    with pytest.raises(SchemaError, match=r"x.sql: the statement 'bare' has no comment"):
        list(parse_statements("-- name: bare\nSELECT 1;\n", "x.sql"))
    with pytest.raises(SchemaError, match="no statement 'nosuch'"):
        statement("nosuch")
    assert "max(id)" in statement("latest_run").as_string(None)
