#!/usr/bin/env python3
"""Renders a terminal's content to a PNG: `tmux capture-pane -ep | render.py OUT.png`.

Needs Pillow and DejaVu Sans Mono (Debian: fonts-dejavu-core)."""

import re
import sys
import unicodedata

from PIL import Image, ImageDraw, ImageFont

FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono%s.ttf"
SIZE = 15
FOREGROUND, BACKGROUND = (208, 208, 208), (18, 18, 22)
NAMED = [(0, 0, 0), (205, 66, 66), (86, 172, 86), (200, 160, 60), (86, 130, 220), (186, 95, 186),
         (70, 170, 180), (208, 208, 208), (110, 110, 110), (255, 110, 110), (130, 220, 130),
         (250, 215, 100), (130, 170, 255), (230, 140, 230), (120, 220, 230), (255, 255, 255)]


def palette(n):
    """One of the 256 colours."""
    if n < 16:
        return NAMED[n]
    if n >= 232:
        return (8 + 10 * (n - 232),) * 3
    n -= 16
    return tuple(0 if c == 0 else 55 + 40 * c for c in (n // 36, n // 6 % 6, n % 6))


def apply(style, codes):
    """Takes one SGR sequence in: style is foreground, background, bold, dim, reversed."""
    codes = [int(c or 0) for c in codes.replace(":", ";").split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.update(fg=None, bg=None, bold=False, dim=False, reverse=False)
        elif code in (1, 2, 7):
            style[{1: "bold", 2: "dim", 7: "reverse"}[code]] = True
        elif code == 22:
            style.update(bold=False, dim=False)
        elif code == 27:
            style["reverse"] = False
        elif code in (38, 48):
            kind = codes.pop(0)
            colour = palette(codes.pop(0)) if kind == 5 else tuple(codes.pop(0) for _ in "rgb")
            style["fg" if code == 38 else "bg"] = colour
        elif code in (39, 49):
            style["fg" if code == 39 else "bg"] = None
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style["fg"] = NAMED[code - 30 if code < 90 else code - 82]
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style["bg"] = NAMED[code - 40 if code < 100 else code - 92]


def main():
    plain, bold = (ImageFont.truetype(FONTS % kind, SIZE) for kind in ("", "-Bold"))
    width, height = round(plain.getlength("M")), sum(plain.getmetrics())
    lines = sys.stdin.read().rstrip("\n").split("\n")
    text = [re.sub(r"\x1b\[[0-9;:]*m", "", line) for line in lines]
    image = Image.new("RGB", (width * max(map(len, text)), height * len(lines)), BACKGROUND)
    draw = ImageDraw.Draw(image)
    style = dict(fg=None, bg=None, bold=False, dim=False, reverse=False)
    for row, line in enumerate(lines):
        column = 0
        for part in re.split(r"(\x1b\[[0-9;:]*m)", line):
            if part.startswith("\x1b"):
                apply(style, part[2:-1])
                continue
            fg, bg = style["fg"] or FOREGROUND, style["bg"] or BACKGROUND
            fg, bg = (bg, fg) if style["reverse"] else (fg, bg)
            if style["dim"]:
                fg = tuple((2 * f + b) // 3 for f, b in zip(fg, bg))
            for char in part:
                x, y = column * width, row * height
                draw.rectangle((x, y, x + width - 1, y + height - 1), fill=bg)
                if char == "█":
                    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=fg)
                else:
                    draw.text((x, y), char, font=bold if style["bold"] else plain, fill=fg)
                column += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    image.quantize(256).save(sys.argv[1], optimize=True)


main()
