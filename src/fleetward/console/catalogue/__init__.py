"""The catalogue: products, channels and releases, as the console verified them itself.

The console follows the repository as any host does, with a pinned root and no key. What it shows
was signed; what it could not verify changes no row and is shown as a problem (`following`).
`comparing` finds out what changed between two releases, `rules` reads detection rules out of files.
"""
