"""How layers look in QGIS: rules with symbols and labels, and the XML that QGIS keeps them in.

Source: files that QGIS 3.22 wrote itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

Kind = Literal["fill", "line", "marker"]
Dash = Literal["solid", "dash", "dot"]
CLASSES: dict[Kind, str] = {"fill": "SimpleFill", "line": "SimpleLine", "marker": "SimpleMarker"}


@dataclass(frozen=True, slots=True)
class Look:
    """A symbol.

    Attributes:
        kind: what is drawn: a fill with its outline, a line or a marker.
        colour: #rrggbb of outline, line or marker.
        width: of the line, or size of the marker, in millimetres.
        dash: of the line.
        opacity: of a fill's inside, 0 to 1.
    """

    kind: Kind
    colour: str
    width: float
    dash: Dash = "solid"
    opacity: float = 0.0

    def options(self) -> dict[str, str]:
        """Return the symbol layer's options in QGIS's words."""
        colour, width = _rgba(self.colour, 1.0), str(self.width)
        if self.kind == "line":
            return {"line_color": colour, "line_width": width, "line_style": self.dash, "line_width_unit": "MM"}
        if self.kind == "marker":
            edge = {"outline_color": "255,255,255,255", "outline_width": "0.2"}
            return {"name": "circle", "color": colour, "size": width, "size_unit": "MM", **edge}
        return {
            "color": _rgba(self.colour, self.opacity),
            "style": "solid" if self.opacity else "no",
            "outline_color": colour,
            "outline_style": self.dash,
            "outline_width": width,
            "outline_width_unit": "MM",
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """Which features of a layer get which symbol: those of a QGIS expression, all for an empty one."""

    label: str
    where: str
    look: Look


@dataclass(frozen=True, slots=True)
class Style:
    """The rules of a layer, and the QGIS expression of its labels, if it has any."""

    rules: tuple[Rule, ...]
    text: str = ""


def single(look: Look, text: str = "") -> Style:
    """Return a style that draws all features in one way."""
    return Style((Rule("", "", look),), text)


def renderer(style: Style) -> ET.Element:
    """Return the renderer of a style as QGIS keeps it."""
    root = ET.Element("renderer-v2", type="RuleRenderer", enableorderby="0", forceraster="0", symbollevels="0")
    rules = ET.SubElement(root, "rules", key=_key("all"))
    symbols = ET.SubElement(root, "symbols")
    for number, rule in enumerate(style.rules):
        known = {"key": _key(str(number)), "symbol": str(number), "label": rule.label}
        ET.SubElement(rules, "rule", known | ({"filter": rule.where} if rule.where else {}))
        symbols.append(_symbol(str(number), rule.look))
    return root


def labeling(style: Style) -> ET.Element:
    """Return the labels of a style as QGIS keeps them."""
    root = ET.Element("labeling", type="simple")
    settings = ET.SubElement(root, "settings", calloutType="simple")
    text = {"fieldName": style.text, "isExpression": "1", "fontSize": "8", "fontSizeUnit": "Point"}
    written = ET.SubElement(settings, "text-style", text, textColor="40,40,40,255")
    ET.SubElement(written, "text-buffer", bufferDraw="1", bufferSize="0.8", bufferColor="255,255,255,220")
    ET.SubElement(settings, "rendering", obstacle="1", scaleVisibility="0", displayAll="0")
    return root


def options(values: Mapping[str, str]) -> ET.Element:
    """Return a map of texts as QGIS keeps it."""
    root = ET.Element("Option", type="Map")
    for name, value in values.items():
        ET.SubElement(root, "Option", type="QString", name=name, value=value)
    return root


def _symbol(name: str, look: Look) -> ET.Element:
    root = ET.Element("symbol", type=look.kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = {"class": CLASSES[look.kind], "enabled": "1", "locked": "0", "pass": "0"}
    ET.SubElement(root, "layer", layer).append(options(look.options()))
    return root


def _rgba(colour: str, opacity: float) -> str:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"{red},{green},{blue},{round(255 * opacity)}"


def _key(name: str) -> str:
    return f"{{{uuid.uuid5(uuid.NAMESPACE_OID, name)}}}"
