"""Logging in tasks as the program has set it up: what a forked process would inherit, as far as it
can travel.

That is how the root logger writes to the terminal, and the levels of all loggers, as they are when
the client is made. What tasks log goes to their own standard output or error then, and from there
to the program's. Handlers of other kinds do not travel.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

VARIABLE = "MANYHANDS_LOGGING"
"""The variable in which it travels to the interpreters of executors."""


def described() -> dict[str, str]:
    """The variable, if this program's root logger writes to the terminal; else none."""
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return {}
    outputs = {id(sys.stdout): "stdout", id(sys.__stdout__): "stdout"}
    outputs |= {id(sys.stderr): "stderr", id(sys.__stderr__): "stderr"}
    for handler in logging.getLogger().handlers:
        stream = outputs.get(id(getattr(handler, "stream", handler)))
        if stream is not None:
            settings = {"stream": stream, "level": handler.level, "levels": _levels(logging)}
            settings |= _format(logging, handler)
            return {VARIABLE: json.dumps(settings, sort_keys=True)}
    return {}


def _levels(logging: Any) -> dict[str, int]:
    root = logging.getLogger()
    loggers = root.manager.loggerDict.copy().items()
    named = {name: getattr(logger, "level", 0) for name, logger in loggers}
    return {"": root.level} | {name: level for name, level in named.items() if level}


def _format(logging: Any, handler: Any) -> dict[str, str | None]:
    """How its formatter writes; as logging does by itself where that needs what does not travel:
    fields of a filter's, or of a formatter of another class."""
    formatter = handler.formatter
    style = getattr(formatter, "_style", None)
    styles = {logging.StrFormatStyle: "{", logging.StringTemplateStyle: "$"}
    made = {
        "format": getattr(formatter, "_fmt", None),
        "datefmt": getattr(formatter, "datefmt", None),
        "style": styles.get(type(style), "%"),
    }
    try:
        logging.Formatter(made["format"], made["datefmt"], made["style"]).format(
            logging.makeLogRecord({})
        )
    except Exception:
        return {"format": None, "datefmt": None, "style": "%"}
    return made


def set_up() -> None:
    """In the interpreter that executors are forked from: does as the variable says."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return
    import logging

    settings = json.loads(text)
    handler = logging.StreamHandler(getattr(sys, settings["stream"]))
    handler.setLevel(settings["level"])
    handler.setFormatter(
        logging.Formatter(settings["format"], settings["datefmt"], settings["style"])
    )
    logging.getLogger().addHandler(handler)
    for name, level in settings["levels"].items():
        logging.getLogger(name).setLevel(level)
