import pathlib
import sys

texts = [pathlib.Path(x, "django/query.py").read_text() for x in sys.argv[1:]]
before, after = ["coherent" if '"sent"' in text else "STALE" for text in texts]
print("update()", before, after)
sys.exit(after == "STALE")
