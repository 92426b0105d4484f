"""Tells joblib, if it is there, that there is a backend of ours.

joblib looks for backends that it does not know in a table of functions that register them. An entry
there costs nothing, and lets `joblib.parallel_config("manyhands")` work without another import.
"""

from __future__ import annotations

import sys


def offer_to_joblib() -> None:
    """Makes ``"manyhands"`` known to joblib, if this program has imported it."""
    parallel = sys.modules.get("joblib.parallel")
    offered = getattr(parallel, "EXTERNAL_BACKENDS", None)
    if isinstance(offered, dict):
        offered.setdefault("manyhands", _register)


def _register() -> None:
    from . import joblib

    joblib.register()
