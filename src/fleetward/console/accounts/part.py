"""What the accounts add to the console."""

from fleetward.console.parts import Part

PART = Part(name="accounts")
