"""What people may ask hosts to do, in words: the closed list of directives as the pages show it."""

from typing import Final

from fleetward.core.inbox import DirectiveKind

KINDS: Final = (
    (DirectiveKind.UPDATE_NOW, "Update now"),
    (DirectiveKind.VERIFY_TREE, "Verify installed trees"),
    (DirectiveKind.LIST_PORTS, "List ports"),
    (DirectiveKind.ROLL_BACK, "Go back to the previous release"),
    (DirectiveKind.PAUSE, "Pause updates"),
)
LENGTHS: Final = ((60, "1 hour"), (240, "4 hours"), (1440, "24 hours"))
"""How long a pause may last, in minutes."""

MEANS: Final = {
    DirectiveKind.UPDATE_NOW: "Each host asks for new metadata as soon as it reads its inbox, within "
    "about a minute, and takes what the signed documents open to it. Nothing is opened by this.",
    DirectiveKind.VERIFY_TREE: "Each host reads all installed files again and compares them with what "
    "was signed: disk load for some seconds, and an event where a file has changed.",
    DirectiveKind.LIST_PORTS: "Each host tells what listens on it now.",
    DirectiveKind.ROLL_BACK: "Each host goes back to the release that it ran before, unless that one is "
    "revoked, and does not take the present one again. Detections of the present release are lost.",
    DirectiveKind.PAUSE: "Each host takes nothing new until the pause is over, urgent releases "
    "included. It goes on reporting.",
}
"""What each does to a host: read before it is asked of many."""
