"""The async data plane: HTTP/1.1 for origin and relay, and the relay's requests upstream.

Invariants: a request is parsed once into an immutable value before any decision; answers on one
connection leave in the order of their requests; every limit is named in `httpd.limits`.

Deliberately not here: what a path means to a relay (relay), and any TUF or release logic.
This package and `blobs` are the data plane, so they touch sockets and descriptors themselves.
"""
