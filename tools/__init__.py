"""The tools behind series.py, and the paths that they share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DJANGO = ROOT / "django"
PATCHES = ROOT / "patches"
PATCHES_MAIN = ROOT / "patches-main"
VENV = ROOT / ".venv"
WORK = ROOT / ".work"
