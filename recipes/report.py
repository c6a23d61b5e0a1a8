"""The report of a run: one HTML page that needs no other file."""

from __future__ import annotations

import base64
import json
import platform
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .registry import Metrics, Recipe, summary
from .run_folder import RunFolder, replacing

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 3rem auto; padding: 0 1.5rem; color: #222; background: #fff;
       font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ margin-bottom: 0; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .3rem; font-size: 1.25rem; }}
.summary {{ color: #666; margin-top: .2rem; }}
.reached {{ color: #1e7e34; }}
.missed {{ color: #c0392b; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .3rem 1.6rem .3rem 0; border-bottom: 1px solid #eee; }}
th {{ font-weight: 600; }}
thead th {{ color: #666; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; }}
figcaption {{ color: #666; }}
pre {{ background: #f5f5f5; border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="summary">{summary}</p>
{verdicts}
<h2>Results</h2>
{metrics}
<h2>Pictures</h2>
{pictures}
<h2>Configuration</h2>
{config}
<h2>Do it again</h2>
<pre>{command}</pre>
<p>Run with {versions}.</p>
</body>
</html>
"""


def write(run: RunFolder, recipe: Recipe, metrics: Metrics) -> None:
    """Write ``report.html`` from the metrics and from what lies in the folder."""
    page = PAGE.format(
        title=escape(recipe.name),
        summary=escape(summary(recipe.name)),
        verdicts="\n".join(
            f'<p class="{"reached" if reached else "missed"}">{escape(text)}</p>'
            for text, reached in verdicts(recipe, run.settings, metrics)
        ),
        metrics=_metrics_table(metrics),
        pictures="\n".join(map(_figure, sorted(run.path.glob("*.png"), key=lambda file: file.stat().st_mtime_ns))),
        config=_table(("option", "value"), ((_flag(key)[2:], value) for key, value in run.settings.items())),
        command=escape(command(recipe, run.settings)),
        versions=escape(_versions()),
    )
    with replacing(run.path / "report.html") as temporary:
        temporary.write_text(page, "utf-8")


def verdicts(recipe: Recipe, settings: dict[str, Any], metrics: Metrics) -> list[tuple[str, bool]]:
    """Return what the recipe expects, each in words and whether it was reached; only the seed may differ.

    ``("test accuracy 0.9889, expected >= 0.985", True)``
    """
    if set(_changed(recipe, settings)) - {"seed"}:
        return []
    found = []
    for path, (relation, bound) in recipe.expected.items():
        value = metrics
        for part in path.split("."):
            value = value[part]
        reached = value >= bound if relation == ">=" else value <= bound
        found.append((f"{path.replace('.', ' ')} {_number(value)}, expected {relation} {bound}", reached))
    return found


def command(recipe: Recipe, settings: dict[str, Any]) -> str:
    """Return the command line that repeats a run: the options that differ from the defaults."""
    words = ["tenzoo", "run", recipe.name]
    for key, value in _changed(recipe, settings).items():
        words.append(_flag(key, value))
        if not isinstance(value, bool):
            words += map(str, value) if isinstance(value, (list, tuple)) else [str(value)]
    return shlex.join(words)


def _changed(recipe: Recipe, settings: dict[str, Any]) -> dict[str, Any]:
    defaults = json.loads(json.dumps(asdict(recipe.config())))  # as the settings were: tuples become lists
    return {key: value for key, value in settings.items() if value != defaults.get(key)}


def _flag(key: str, value: Any = None) -> str:
    return f"--{'no-' if value is False else ''}{key.replace('_', '-')}"


def _metrics_table(metrics: Metrics) -> str:
    """A row for each metric, a column for each part of the data; single numbers follow."""
    parts = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    rows = [[name.replace("_", " "), *(values.get(name, "") for values in parts.values())] for name in names]
    singles = [(key.replace("_", " "), value) for key, value in metrics.items() if key not in parts]
    return _table(("", *parts), rows) + "<br>" + _table((), singles)


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for name, *values in rows:
        cells = "".join(f"<td>{escape(_number(value))}</td>" for value in values)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{''.join(lines)}</tbody></table>"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(file: Path) -> str:
    from PIL import Image

    with Image.open(file) as image:
        description = escape(image.info.get("Description", file.stem))
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{content}" alt="{description}">'
        f"<figcaption>{description}</figcaption></figure>"
    )


def _versions() -> str:
    import numpy

    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return f"tenzoo {version('tenzoo')}, numpy {numpy.__version__}, {system}"
