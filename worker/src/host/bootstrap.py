# What a Python interpreter runs to become a template: finds the package, and leaves the rest to it.
import sys

if sys.version_info < (3, 11):
    version = "%d.%d" % tuple(sys.version_info[:2])
    sys.exit("it is Python %s, and manyhands needs 3.11 or newer" % version)
if sys.path[:1] == [""]:
    # Not what happens to lie in the working directory.
    del sys.path[0]
import json
import os

spec = json.loads(sys.argv[1])
sys.path += [path for path in spec["path"] if path not in sys.path and os.path.exists(path)]
try:
    from manyhands._template import main
except ModuleNotFoundError as error:
    if error.name not in ("manyhands", "manyhands._template", "manyhands._core"):
        raise
    sys.exit(
        "the package manyhands cannot be imported there (%s): install it for this interpreter, "
        "%s, or give the worker another one (--python)" % (error, sys.executable)
    )
del sys, json, os
main(spec)
