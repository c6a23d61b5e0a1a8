"""Writes the tables at the end of keras-differences.md: what of Keras is missing or takes other arguments.

    KERAS_BACKEND=jax python docs/keras_differences.py          # write
    KERAS_BACKEND=jax python docs/keras_differences.py --check  # fail if something differs without a reason

Every public class and function of the namespaces is looked up here; what is not there, arguments that are not
taken and defaults that differ need a reason in the tables of this file.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import keras

import tenzoo as tz

PAGE = Path(__file__).with_name("keras-differences.md")
MARK = "<!-- What follows is written by keras_differences.py. -->"
NAMESPACES = (
    "layers",
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "optimizers",
    "optimizers.schedules",
    "callbacks",
    "ops",
)

OTHER_FRAMEWORK = "It wraps another framework"
NO_CODE = "A saved model never holds code: write the function as a layer of your own"
SPARSE = "There are no sparse or ragged tensors"
POSITIONAL = "The argument has another name; it is passed by position"
NO_QUANTISATION = "Quantised layers are not built yet"

# Why a name is not there: pattern of "namespace.name" -> reason. The first that fits counts.
MISSING: dict[str, str] = {
    r"layers\.(FlaxLayer|JaxLayer|TFSMLayer|TorchModuleWrapper)": OTHER_FRAMEWORK,
    r"callbacks\.OrbaxCheckpoint": f"{OTHER_FRAMEWORK}; `BackupAndRestore` and `ModelCheckpoint` are there",
    r"layers\.Lambda": NO_CODE,
}
# Why an argument is not taken: pattern of "namespace.name(argument)" -> reason.
ARGUMENTS: dict[str, str] = {
    r".*\.(serialize|deserialize)\(.*\)": POSITIONAL,
    r".*\((sparse|ragged)\)": SPARSE,
    r".*\((quantization_config|gptq_unpacked_column_size)\)": NO_QUANTISATION,
    r".*\(use_cudnn\)": "There is no GPU",
    r".*\(synchronized\)": "There is one process",
    r".*\(vocabulary_dtype\)": "Keras takes one value alone, int64",
    r"layers\.Input.*": "Inputs are tensors, and all of them are there",
}
# Why a default differs: pattern of "namespace.name(argument)" -> reason.
DEFAULTS: dict[str, str] = {}


def public(module: Any) -> list[str]:
    """The classes and functions of a namespace, aliases included."""
    names = [name for name in dir(module) if not name.startswith("_")]
    return [name for name in names if callable(getattr(module, name))]


def find(namespace: str, library: Any) -> Any:
    """A namespace of a library, or None."""
    for part in namespace.split("."):
        library = getattr(library, part, None)
    return library


def parameters(thing: Any, inherited: bool) -> dict[str, Any]:
    """The arguments that a function or class takes, with their defaults; those of base classes if asked."""
    found: dict[str, Any] = {}
    classes = thing.__mro__ if isinstance(thing, type) else ()
    for function in [c.__init__ for c in classes] or [thing]:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            break
        kinds = signature.parameters.values()
        for parameter in kinds:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name != "self":
                found.setdefault(parameter.name, parameter.default)
        if not inherited or not any(parameter.kind is parameter.VAR_KEYWORD for parameter in kinds):
            break
    return found


def like(ours: Any, theirs: Any) -> bool:
    """Whether two defaults mean the same: 2 and (2, 2), "zeros" and "Zeros"; what Keras requires may have one."""
    if theirs is inspect.Parameter.empty or str(ours).lower() == str(theirs).lower():
        return True
    if isinstance(theirs, (tuple, list)):
        parts = ours if isinstance(ours, (tuple, list)) else [ours] * len(theirs)
        return len(parts) == len(theirs) and all(map(like, parts, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        return isinstance(ours, (int, float)) and abs(ours - theirs) <= 1e-6 * abs(theirs)
    return callable(ours) and callable(theirs)


def differences() -> list[tuple[str, str, str]]:
    """(kind, what, ours) for all that differs, of kind "missing", "argument" or "default"."""
    rows = []
    for namespace in NAMESPACES:
        ours = find(namespace, tz)
        for name in public(find(namespace, keras)):
            what = f"{namespace}.{name}"
            mine, theirs = getattr(ours, name, None), getattr(find(namespace, keras), name)
            if mine is None:
                rows.append(("missing", what, ""))
                continue
            taken = parameters(mine, inherited=True)
            for argument, default in parameters(theirs, inherited=False).items():
                if argument not in taken:
                    rows.append(("argument", f"{what}({argument})", ""))
                elif not like(taken[argument], default):
                    rows.append(("default", f"{what}({argument})", f"{default!r} → {taken[argument]!r}"))
    return rows


def reason_for(what: str, table: dict[str, str]) -> str | None:
    """The first reason whose pattern fits the whole of ``what``."""
    return next((reason for pattern, reason in table.items() if re.fullmatch(pattern, what)), None)


def grouped(rows: list[tuple[str, str, str]]) -> tuple[str, list[str]]:
    """The tables, and all that has no reason."""
    unexplained, lines = [], []
    titles = {
        "missing": ("Not there", MISSING),
        "argument": ("Arguments that are not taken", ARGUMENTS),
        "default": ("Other defaults", DEFAULTS),
    }
    for kind, (title, table) in titles.items():
        by_reason: dict[str, list[str]] = {}
        for _, what, detail in (row for row in rows if row[0] == kind):
            reason = reason_for(what, table)
            if reason is None:
                unexplained.append(f"{kind}: {what} {detail}".rstrip())
                reason = "not there yet"
            by_reason.setdefault(reason, []).append(f"`{what}`" + (f" {detail}" if detail else ""))
        if by_reason:
            lines += ["", f"## {title}", "", "| in Keras | reason |", "| --- | --- |"]
            lines += [f"| {', '.join(sorted(names))} | {reason} |" for reason, names in by_reason.items()]
    return "\n".join(lines), unexplained


def main() -> None:
    tables, unexplained = grouped(differences())
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0].rstrip()
    page = f"{head}\n\n{MARK}\n\nCompared with Keras {keras.__version__}.\n{tables}\n"
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(unexplained) if unexplained else 0)
    PAGE.write_text(page, encoding="utf-8")
    print(f"{len(unexplained)} differences without a reason", *unexplained, sep="\n")


if __name__ == "__main__":
    main()
