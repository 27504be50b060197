"""The commands of series.py that have a module of their own: see series.py."""
