"""Plots of a run that another library or system may have drawn otherwise: shapes alone, which
neither act, fetch anything, nor reach beyond their frame.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

PLOT = re.compile(rb"<svg.*?</svg>", re.DOTALL)
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
ABOUT = (RDF, "{http://creativecommons.org/ns#}", "{http://purl.org/dc/elements/1.1/}")
"""Namespaces of what a plot says of itself; no browser shows it."""
SOURCES = {f"{RDF}resource", f"{RDF}about"}
"""The attributes that it has there."""
NAMESPACES = (
    b' xmlns="http://www.w3.org/2000/svg"',
    b' xmlns:xlink="http://www.w3.org/1999/xlink"',
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"',
    b' xmlns:cc="http://creativecommons.org/ns#"',
    b' xmlns:dc="http://purl.org/dc/elements/1.1/"',
)
SHAPES = {
    "svg": {"width", "height", "viewBox", "version"},
    "metadata": set(),
    "defs": set(),
    "style": {"type"},
    "g": {"id", "transform", "clip-path"},
    "path": {"id", "d", "transform", "clip-path", "style"},
    "use": {"x", "y", "transform", "style", f"{XLINK}href"},
    "clipPath": {"id"},
    "rect": {"x", "y", "width", "height"},
}
"""Elements that a plot has, with their attributes."""
MARK = re.compile(rb"</?(%s|(rdf|cc|dc):\w+)(?=[\s/>])|<!-- [^<>]* -->" % "|".join(SHAPES).encode())
"""What a browser takes for the same as a parser of XML does: a page is HTML, where a namespace
means nothing and a comment may end earlier.
"""
RULE = "*{stroke-linejoin: round; stroke-linecap: butt}"
"""The one style sheet."""
INSIDE = {
    f"{XLINK}href": re.compile(r"#[\w.-]+"),
    "clip-path": re.compile(r"url\(#[\w.-]+\)"),
    "style": re.compile(r"((fill|stroke|opacity)[a-z-]*: [#\w ,.%-]+(; |;?$))*"),
}
"""What attributes may say that could lead elsewhere."""


def is_plot(data: bytes) -> bool:
    """Whether an SVG element holds nothing but shapes.

    Args:
        data: of an SVG file, from somebody else.
    """
    named = sum(data.count(namespace) for namespace in NAMESPACES)
    if sum(1 for _ in MARK.finditer(data)) < data.count(b"<") or named < data.count(b"xmlns"):
        return False
    try:
        nodes = [*ElementTree.fromstring(data).iter()]
    except (ElementTree.ParseError, ValueError, LookupError):
        return False
    root, *inner = nodes
    return _is_shape(root) and all(
        _is_shape(node) if node.tag.startswith(SVG) else _is_about(node) for node in inner
    )


def _is_about(node: ElementTree.Element) -> bool:
    return node.tag.startswith(ABOUT) and node.attrib.keys() <= SOURCES


def _is_shape(node: ElementTree.Element) -> bool:
    name = node.tag.removeprefix(SVG)
    words = (node.text or "").strip()
    return (
        node.tag.startswith(SVG)
        and name in SHAPES
        and node.attrib.keys() <= SHAPES[name]
        and all(_stays_inside(at, value) for at, value in node.items())
        and words == (RULE if name == "style" else "")
        and not (node.tail or "").strip()
    )


def _stays_inside(attribute: str, value: str) -> bool:
    return attribute not in INSIDE or bool(INSIDE[attribute].fullmatch(value))
