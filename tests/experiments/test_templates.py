"""Every dotted name in a template is a field of the model that it is read from."""

import types
import typing

import pytest
from jinja2 import Environment, nodes
from markdown_it import MarkdownIt
from pydantic import BaseModel

from experiments.measure.flag_kinds import Kind
from experiments.report import campaign_section, card, headline, html, marks_section, matrix
from experiments.report.templates import in_line, template
from experiments.results.schema.campaigns import CampaignMeasures
from experiments.results.schema.card import Card
from experiments.results.schema.curves import CurveResult
from experiments.results.schema.defenses import TeacherResult
from experiments.results.schema.exhibits import Exhibits
from experiments.results.schema.measures import Measures, StudyFacts
from experiments.results.schema.rows import Row

CURVES, KINDS = list[CurveResult], dict[str, Kind]
GIVEN = {
    html.TEMPLATE: {
        "study": StudyFacts,
        "measures": Measures,
        "shown": Exhibits,
        "rows": list[Row],
        "teachers": list[TeacherResult],
        "findings": list[headline.Finding],
        "matrices": list[matrix.Matrix],
        "curved": CURVES,
        "kinds": KINDS,
    },
    card.TEMPLATE: {"c": Card, "curved": CURVES, "kinds": KINDS},
    campaign_section.TEMPLATE: {
        "m": CampaignMeasures,
        "tables": list[campaign_section.LeakTable],
        "detected": list[campaign_section.DetectorTable],
        "harm": campaign_section.HarmTable,
        "reduced": campaign_section.HarmTable,
    },
    marks_section.TEMPLATE: {"tables": list[marks_section.MarkTable]},
}
"""What each template is given that has fields."""


def wrong(text, names):
    """The dotted names of a template that no model has, as `Model.name`."""
    reader = Reader(names)
    reader.read(Environment().parse(text))
    return reader.wrong


def bare(kind):
    """A kind without its annotation and its None."""
    if typing.get_origin(kind) is typing.Annotated:
        return bare(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner, *more) = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return bare(inner) if not more else None
    return kind


def fields(kind):
    """The names of a model's or a tuple's fields and properties, with their kinds."""
    hints = typing.get_type_hints(kind, include_extras=True)
    kinds = {name: hint for name, hint in hints.items() if not name.startswith(("_", "model_"))}
    for name in dir(kind):
        value = getattr(kind, name, None)
        if isinstance(value, property):
            kinds[name] = typing.get_type_hints(value.fget, include_extras=True).get("return")
    return kinds


class Reader:
    """Walks a template and knows what each of its names is; None is what it does not know."""

    def __init__(self, names):
        self.names, self.wrong = dict(names), []

    def read(self, node):
        if isinstance(node, nodes.For):
            return self.loop(node)
        if isinstance(node, nodes.Assign):
            self.kind(node.node)
            self.bind(node.target, self.kind(node.node))
        elif isinstance(node, nodes.Expr):
            self.kind(node)
        else:
            for child in node.iter_child_nodes():
                self.read(child)

    def loop(self, node):
        outer = dict(self.names)
        self.bind(node.target, self.element(self.kind(node.iter)))
        for child in [*([node.test] if node.test else []), *node.body]:
            self.read(child)
        self.names = outer
        for child in node.else_:
            self.read(child)

    def bind(self, target, kind):
        if isinstance(target, nodes.Name):
            self.names[target.name] = kind
            return
        kinds = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
        for i, item in enumerate(target.items):
            self.bind(item, kinds[i] if i < len(kinds) else None)

    def element(self, kind):
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        return bare(args[0]) if origin in (list, tuple) and args else None

    def kind(self, node):
        """What an expression is; what it reads on the way is checked."""
        if isinstance(node, nodes.Name):
            return self.names.get(node.name)
        if isinstance(node, nodes.Getattr) and node.node == nodes.Name("loop", "load"):
            return None  # jinja's own, which StrictUndefined holds
        if isinstance(node, nodes.Getattr):
            return self.attribute(self.kind(node.node), node.attr)
        if isinstance(node, nodes.Getitem):
            self.kind(node.arg)
            kind = bare(self.kind(node.node))
            args = typing.get_args(kind)
            return bare(args[-1]) if typing.get_origin(kind) is dict else self.element(kind)
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            return self.call(node)
        if isinstance(node, nodes.Filter) and node.name in ("list", "selectattr"):
            kind = bare(self.kind(node.node))
            if node.name == "selectattr":
                self.attribute(self.element(kind), node.args[0].value)
            return kind
        for child in node.iter_child_nodes():
            self.kind(child)
        return None

    def call(self, node):
        """The pairs of a mapping, or what a model's own `items` gives."""
        kind = bare(self.kind(node.node.node))
        for argument in node.args:
            self.kind(argument)
        if node.node.attr == "items" and typing.get_origin(kind) is dict:
            return list[tuple[typing.get_args(kind)]]
        if kind is not None and hasattr(kind, node.node.attr):
            return typing.get_type_hints(getattr(kind, node.node.attr)).get("return")
        return self.attribute(kind, node.node.attr)

    def attribute(self, kind, name):
        kind = bare(kind)
        if not isinstance(kind, type):
            self.wrong.append(f"?.{name}")
            return None
        if issubclass(kind, BaseModel | tuple) and name in fields(kind):
            return bare(fields(kind)[name])
        self.wrong.append(f"{kind.__name__}.{name}")
        return None


@pytest.mark.parametrize("template", GIVEN, ids=lambda path: path.name)
def test_every_field_of_a_template_is_one(template):
    text = template.read_text()
    assert wrong(text, GIVEN[template]) == []
    assert text.count(".") > 20


@pytest.mark.parametrize(
    ("text", "misspelt"),
    [
        ("{{ study.nam }}", ["StudyFacts.nam"]),
        ("{% for r in measures.rows %}{{ r.transfr }}{% endfor %}", ["Row.transfr"]),
        ("{% for r in measures.rows if r.rol %}{% endfor %}", ["Row.rol"]),
        ("{% for c in measures.cases %}{{ c.utility.chang }}{% endfor %}", ["Utility.chang"]),
        ("{{ points(measures.rows[0].defendet) }}", ["Row.defendet"]),
        (
            "{% for n, b in measures.curves[0].bill.items() %}{{ b.dollar }}{% endfor %}",
            ["HalfBill.dollar"],
        ),
        ("{% if curved|selectattr('below')|list %}{% endif %}", ["CurveResult.below"]),
        ("{{ nothing.here }}", ["?.here"]),
    ],
)
def test_a_misspelt_field_is_found(text, misspelt):
    assert wrong(text, GIVEN[html.TEMPLATE]) == misspelt


HOSTILE = [
    "Q\n\n## Verdicts\n\n| task | verdict |\n|---|---|\n| addition | effective |",
    "# effective",
    "> effective",
    "```\neffective\n```",
    "~~~ effective",
    "<script>alert(1)</script>",
    "<!-- the rest",
    "![x](http://elsewhere/x.png)",
    "[card](http://elsewhere)",
    "[card][1]\n\n[1]: http://elsewhere",
    "[1]: http://elsewhere",
    "a\r# b",
    "a\u2028# b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_given_stays_words_of_one_line_in_markdown(text):
    """As a parser of Markdown reads it, alone in a paragraph and in a cell."""
    parser = MarkdownIt("commonmark").enable("table")
    for before, behind in (("", ""), ("| a | b |\n|---|---|\n| ", " | c |")):
        words = [token.type for token in parser.parse(f"{before}word{behind}")]
        tokens = parser.parse(f"{before}{in_line(text)}{behind}")
        assert [token.type for token in tokens] == words
        kinds = {child.type for token in tokens for child in token.children or ()}
        assert kinds <= {"text", "code_inline"}


def test_letters_that_nobody_sees_are_written_out(tmp_path):
    page = tmp_path / "page"
    page.write_text("<b>{{ words }}</b>{{ n }}")
    odd = "a\x1b[31m\u202eb\n<i>"
    assert template(page, html=True).render(words=odd, n=1) == (
        "<b>a\\x1b[31m\\u202eb\n&lt;i&gt;</b>1"
    )
    assert template(page, html=False).render(words=odd, n=1) == ("<b>a\\x1b[31m\\u202eb \\<i></b>1")
