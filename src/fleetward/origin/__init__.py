"""The origin: makes releases, signs metadata, keeps the repository of plain files.

Start at `create` (init), `publish` and `steward`; `workshop.Workshop` is what each works with.
"""
