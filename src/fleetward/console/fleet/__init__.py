"""The fleet as rows: host records and their keys, enrolment, status, events, directives.

Invariants: what hosts say is written by `ingest` alone; what people decide is written by the
services here, each together with the audit log.
"""
