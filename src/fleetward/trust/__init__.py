"""The only place that knows TUF: the client that hosts trust, and the signing that origin does.

Importing this package, or `trust.client`, does not import `tuf`; the first metadata that must be
verified does (docs/adr/0006-tuf-client.md).
"""
