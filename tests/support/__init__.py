"""Fakes and simulators that several suites share; each passes the real thing's contract suite."""
