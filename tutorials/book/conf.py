"""Sphinx's settings for the site, formulas as MathML, and a search for both languages."""

import re
import sys
from pathlib import Path

import latex2mathml.converter
import sphinx.search
from docutils.nodes import SkipNode
from sphinx.search.en import SearchEnglish

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from minglm import __version__

project, author, release, copyright = "minglm", "", __version__, "MIT"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 6
myst_dmath_double_inline = True
suppress_warnings = ["myst.header", "misc.highlighting_failure", "toc.not_included"]
html_theme, html_title, html_search_language = "furo", f"minglm {__version__}", "both"
html_static_path = [str(Path(__file__).with_name("static"))]
html_css_files, html_js_files = ["book.css"], ["book.js"]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_show_search_summary = False  # it would fetch pages, which file:// forbids
html_math_renderer = "mathml"
pygments_style, pygments_dark_style = "a11y-light", "a11y-dark"
LETTER = "[\u2e80-\u9fff\uf900-\ufaff]"
SPLIT = """
function splitQuery(query) {
  return [...query.matchAll(/[\\u2e80-\\u9fff\\uf900-\\ufaff]+|[\\p{L}\\p{N}_]+/gu)].flatMap(([word]) =>
    /^[\\u2e80-\\u9fff\\uf900-\\ufaff]/.test(word) && word.length > 1
      ? [...word].slice(1).map((letter, n) => word[n] + letter) : [word]);
}
"""


class Both(SearchEnglish):
    """English words by their stem; Chinese by pairs of neighbouring letters, which needs no dictionary."""

    lang = "both"
    js_splitter_code = SPLIT

    def split(self, text):
        words = re.findall(rf"{LETTER}+|(?:(?!{LETTER})\w)+", text)
        for word in words:
            pairs = re.match(LETTER, word) and len(word) > 1
            yield from [word[n : n + 2] for n in range(len(word) - 1)] if pairs else [word]


sphinx.search.languages["both"] = Both


def formula(text, display):
    # Chromium and Firefox need no library for MathML
    return latex2mathml.converter.convert(re.sub(r"\\tag\{(.*?)\}", r"\\qquad (\1)", text), display=display)


def inline(writer, node):
    writer.body.append(formula(node.astext(), "inline"))
    raise SkipNode


def block(writer, node):
    writer.body.append(f'<div class="formula" tabindex="0">{formula(node.astext(), "block")}</div>')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
