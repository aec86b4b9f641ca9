"""Settings: strict TOML, read once into frozen dataclasses.

An unknown key is an error that names the nearest known one; a wrong type names the key and the type
that it wants. Flags of the command line win over the file: a program overlays them itself.
"""
