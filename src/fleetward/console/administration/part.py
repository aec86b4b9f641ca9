"""What the administration adds to the console."""

from fleetward.console.parts import Part

PART = Part(name="administration")
