"""What the catalogue adds to the console."""

from fleetward.console.catalogue.working import work_for_ever
from fleetward.console.parts import Part

PART = Part(name="catalogue", background=(work_for_ever,))
