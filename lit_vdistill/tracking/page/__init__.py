"""The kit that every page of the project is made with: one file each, no request, no script.

A page is a Jinja2 template beside the module that fills it. It extends `page.html.j2` and draws by
the macros of `parts.html.j2`; Python hands it the records below, and builds no markup itself.

- `render.py` fills a template and escapes all that it is given.
- `tables.py` holds a table, for HTML and for Markdown.
- `charts.py` draws intervals, bars and lines: matplotlib's SVG, coloured by `page.css`.
- `film.py` holds frames with boxes, and the time line below them.
"""
