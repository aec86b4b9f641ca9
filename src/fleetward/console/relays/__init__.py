"""The relays as the console sees them: asked once a minute, and shown beside each other.

A relay is untrusted: what it says of itself is shown as its own words, bounded, and never believed
where a host or a signature says more. A relay that freezes is seen by the version of its timestamp
against that of all others.
"""
