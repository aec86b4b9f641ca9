"""Alerts: what is wrong in the fleet, once per thing, with its next step and its life.

`gathering` reads facts from the rows, `deciding` says what becomes of alerts, `keeping` writes it
and tells people by the console's notices. Deliberately not here: how notices reach people.
"""
