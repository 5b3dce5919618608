"""Two charts as SVG, written by hand: bars on a logarithmic scale and lines over two of them. Readable on light and on dark pages."""

import math
from xml.sax.saxutils import escape

TEXT = "#727b85"  # can be read on white and on black
GRID = "#808080"
COLOURS = ["#1f77d0", "#e0a100", "#c2571a", "#00a2a8", "#6a9a2f", "#8d63c6", "#c0589b", "#8a7a5c"]


class Page:
    def __init__(self, width, height, title):
        self.size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        self.parts = []
        self.title = title
        self.text(10, 20, title, weight="bold", size=14)

    def text(self, x, y, text, anchor="start", size=12, weight="normal", colour=TEXT):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def line(self, x1, y1, x2, y2, colour=GRID, opacity=0.3):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-opacity="{opacity}"/>'
        )

    def box(self, x, y, width, height, colour, hint=""):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}">'
            f"<title>{escape(hint)}</title></rect>"
        )

    def curve(self, points, colour):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]

    def legend(self, names, x, y, width):
        for i, name in enumerate(names):
            self.box(x, y - 9, 10, 10, COLOURS[i % len(COLOURS)])
            self.text(x + 15, y, name)
            x += width or 30 + 7.2 * len(name)

    def write(self, path):
        with open(path, "w") as file:
            file.write(
                f'<svg xmlns="http://www.w3.org/2000/svg" {self.size} font-family="sans-serif" role="img">'
                f"<title>{escape(self.title)}</title>\n" + "\n".join(self.parts) + "\n</svg>\n"
            )


def short(value):
    """Three digits, without an exponent: 12300 -> 12,300; 1.2345 -> 1.23"""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def decade(exponent):
    value = 10.0**exponent
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def bar_chart(path, title, unit, series, groups):
    """groups: (label, {series name: value}); less is better, the scale is logarithmic."""
    values = [value for _, bars in groups for value in bars.values() if value > 0]
    if not values:
        raise ValueError("there is nothing to plot")
    low, high = math.floor(math.log10(min(values)) - 0.05), math.ceil(math.log10(max(values)) + 0.05)
    thick, gap, left, top, wide = 11, 12, 260, 66, 560
    tall = sum(len(bars) * thick + gap for _, bars in groups)
    page = Page(left + wide + 70, top + tall + 40, title)
    page.legend(series, 10, 44, None)
    at = lambda value: left + (math.log10(value) - low) / (high - low) * wide
    for exponent in range(low, high + 1):
        x = at(10.0**exponent)
        page.line(x, top - 6, x, top + tall)
        page.text(x, top + tall + 16, decade(exponent), "middle", 11)
    page.text(left + wide, top + tall + 32, f"{unit}, logarithmic: shorter is better", "end", 11)
    y = top
    for label, bars in groups:
        page.text(left - 8, y + len(bars) * thick / 2 + 4, label, "end")
        for name in series:
            if name not in bars:
                continue
            value = bars[name]
            end = at(value) if value > 0 else left
            page.box(left, y, end - left, thick - 2, COLOURS[series.index(name) % len(COLOURS)], f"{name}: {short(value)} {unit}")
            page.text(max(end, left + 1) + 4, y + thick - 2.5, short(value), size=10)
            y += thick
        y += gap
    page.write(path)


def line_chart(path, title, x_label, y_label, lines):
    """lines: {name: [(x, y)]}; both scales are logarithmic."""
    points = [point for line in lines.values() for point in line if min(point) > 0]
    if not points:
        raise ValueError("there is nothing to plot")
    logs = [[math.log10(point[i]) for point in points] for i in (0, 1)]
    (x_low, x_high), (y_low, y_high) = [
        (math.floor(min(log) + 0.001), max(math.ceil(max(log) - 0.001), math.floor(min(log) + 0.001) + 1)) for log in logs
    ]
    left, wide, tall, names = 60, 600, 320, list(lines)
    columns = 2
    top = 40 + 18 * math.ceil(len(names) / columns)
    page = Page(left + wide + 40, top + tall + 50, title)
    for row in range(0, len(names), columns):
        for column, name in enumerate(names[row : row + columns]):
            x, y = 10 + column * 340, 44 + 18 * row / columns
            page.box(x, y - 9, 10, 10, COLOURS[(row + column) % len(COLOURS)])
            page.text(x + 15, y, name)
    at_x = lambda x: left + (math.log10(x) - x_low) / (x_high - x_low) * wide
    at_y = lambda y: top + tall - (math.log10(y) - y_low) / (y_high - y_low) * tall
    for exponent in range(x_low, x_high + 1):
        page.line(at_x(10.0**exponent), top, at_x(10.0**exponent), top + tall)
        page.text(at_x(10.0**exponent), top + tall + 16, decade(exponent), "middle", 11)
    for exponent in range(y_low, y_high + 1):
        page.line(left, at_y(10.0**exponent), left + wide, at_y(10.0**exponent))
        page.text(left - 8, at_y(10.0**exponent) + 4, decade(exponent), "end", 11)
    page.text(left + wide, top + tall + 36, f"across: {x_label}; up: {y_label}; both logarithmic", "end", 11)
    for i, line in enumerate(lines.values()):
        page.curve([(at_x(x), at_y(y)) for x, y in line if min(x, y) > 0], COLOURS[i % len(COLOURS)])
    page.write(path)
