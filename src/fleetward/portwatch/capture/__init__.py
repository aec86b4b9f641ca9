"""Captures: files of packets, read as streams in bounded memory."""
