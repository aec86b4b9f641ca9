"""What the fleet adds to the console."""

from fleetward.console.parts import Part

PART = Part(name="fleet")
