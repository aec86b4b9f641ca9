"""The sensor: hears what is said to a port on which nothing should listen."""
