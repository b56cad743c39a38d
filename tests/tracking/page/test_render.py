import json
from html.parser import HTMLParser

import jinja2
import pytest

from lit_vdistill.tracking.page.render import clean, in_markdown, render
from lit_vdistill.tracking.page.tables import Cell, Column, Table

HOSTILE = ["<script>alert(1)</script>", "\" onload='x'", "a\u2028b", "half \ud83d", "{{ 7 * 7 }}",
           "]]><!--", "\x00\x1b", "</style>", "&lt;b&gt;"]  # fmt: skip
TABLE = """{% extends "page.html.j2" %}{% import "parts.html.j2" as parts %}
{% block body %}{{ parts.table(found) }}{{ parts.facts({"key": text}) }}{% endblock %}"""


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, tuple(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page_of(tmp_path):
    template = tmp_path / "t.html.j2"
    template.write_text(TABLE)

    def build(text):
        found = Table([Column(text, text)], [[Cell(text, (text,), is_marked=True)]], text)
        return render(template, {"title": text, "lead": text, "found": found, "text": text})

    return build


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(page_of, text):
    page, plain = (Tags(page_of(one)) for one in (text, "plain"))
    assert page.found == plain.found
    assert page.text.count(clean(text)) == plain.text.count("plain") == 9
    page_of(text).encode()


def test_what_a_template_lacks_is_an_error(tmp_path):
    (tmp_path / "t.j2").write_text("{{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        render(tmp_path / "t.j2", {})


def test_a_page_asks_for_nothing_outside(page_of):
    page = page_of("x")
    assert "://" not in page
    assert "default-src 'none'" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a|b\nc", r"a\|b c"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("*x* _y_ `z` [u](v)", r"\*x\* \_y\_ \`z\` \[u\](v)"),
        ("a\u2028b\x85c", "a b c"),
        (0.5, "0.5"),
    ],
)
def test_markdown_holds_plain_text(text, line):
    assert str(in_markdown(text)) == line


def test_text_that_is_none_is_replaced():
    assert clean("a\ud800\x00\tb") == "a\ufffd\ufffd\tb"
    assert clean(json.loads('"\\ud83d\\ude00"')) == "\U0001f600"


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match="row 0 of a table has 1 cells, expected 2"):
        Table([Column("a"), Column("b")], [[Cell("x")]])
