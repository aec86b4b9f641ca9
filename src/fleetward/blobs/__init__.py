"""Blobs by digest: kept whole and right, or not kept at all.

Deliberately not here: which blobs to keep (relay decides), and what a blob means (trust, deltas).
"""
