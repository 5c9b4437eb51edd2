"""The page on SQL: each recipe runs and prints what is shown, and the drawing is of today's tables."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import sql_page
import sql_world
import tables_drawing

from rsloc_db.db import tables
from rsloc_db.db.connection import Connection

UPDATE = "run: python docs/code/sql_page.py"
RECIPES = list(sql_page.RECIPE.finditer(sql_page.PAGE.read_text()))


def test_recipes_print_what_the_page_shows(conn: Connection) -> None:
    sql_world.build(conn)
    assert sql_page.fill(sql_page.PAGE.read_text(), sql_page.run_on(conn)) == sql_page.PAGE.read_text(), UPDATE


def test_there_are_twenty_recipes_and_each_shows_rows() -> None:
    text = sql_page.PAGE.read_text()
    assert len(RECIPES) == len(re.findall(r"^### \d+\. ", text, re.MULTILINE)) == text.count("```sql") >= 20
    for recipe in RECIPES:
        assert len(recipe["output"].splitlines()) > 2, recipe["sql"]


def test_the_drawing_is_of_the_tables_as_they_are() -> None:
    drawn = tables_drawing.draw()
    assert sql_page.DRAWING.read_text() == drawn, UPDATE
    root = ElementTree.fromstring(drawn)
    names = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert set(tables.metadata.tables) <= names
