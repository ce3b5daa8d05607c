"""What the demo prints: numbered steps, the commands it runs, and their real output."""

import os
import sys

COLOR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}
OUTPUT_LINES_MAX = 32

_steps = 0


def paint(style, text):
    return f"\033[{STYLES[style]}m{text}\033[0m" if COLOR else text


def title(text, below):
    print()
    print(paint("bold", text))
    print(paint("dim", below), flush=True)


def step(text):
    global _steps
    _steps += 1
    print()
    print(paint("cyan", f"{_steps:>2}  ") + paint("bold", text), flush=True)


def say(text):
    print(f"    {text}", flush=True)


def command(words):
    print("    " + paint("dim", "$ ") + paint("cyan", words), flush=True)


def output(text):
    """A command's own output, in full unless it is long; then its head and its end."""
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    if len(lines) > OUTPUT_LINES_MAX:
        left_out = len(lines) - OUTPUT_LINES_MAX + 1
        keep = OUTPUT_LINES_MAX - 6
        lines = lines[:keep] + [f"... {left_out} more lines ..."] + lines[-5:]
    for line in lines:
        print("    " + paint("dim", "| ") + line.rstrip())
    sys.stdout.flush()


def table(head, rows, right=()):
    """Aligned columns; `right` names the columns of numbers."""
    cells = [list(head)] + [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for number, row in enumerate(cells):
        line = "  ".join(
            value.rjust(width) if head[i] in right else value.ljust(width)
            for i, (value, width) in enumerate(zip(row, widths))
        ).rstrip()
        say("  " + (paint("dim", line) if number == 0 else line))


def proof(holds, text):
    print("    " + (paint("green", "  ok  ") if holds else paint("red", "FAILED")) + "  " + text)
    sys.stdout.flush()
    return holds


def count(number):
    return f"{number:,}"
