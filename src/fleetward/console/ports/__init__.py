"""The fleet's listeners: what listens where, what is new, and a host's history.

Invariant: what listens now is a function of the stored events of the port watch, in whatever order
and however often they came (`deciding`); it is written in the transaction that stores the events.

Deliberately not here: verdicts (core.ports, on the host), what is an event (core.portchanges).
"""
