"""The console: where people see what every host really runs, and act on it.

Invariants: it holds no release key and cannot sign content (import-linter proves it); every route
has an entry that says who may take it (`permissions`, `parts`); every change is in the audit log.

How to add to it (docs/console-dev.md): a package with a `part.py`, named once in `parts.PARTS`.

Deliberately not here: Django's own admin site, which would change rows past the audit log.
"""
