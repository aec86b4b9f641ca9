"""The only code that touches clock, disk, sockets, processes and databases."""
