"""Names that look like another's: how a program hides behind one that people expect.

A skeleton is what the eye keeps of a name: letters of other alphabets become the Latin ones that
they look like, `0` and `1` become letters, `rn` becomes `m`. Two names with one skeleton look
alike; so do two that differ by one key (left out, doubled, swapped or mistyped).

Sources: Unicode Technical Standard 39 (confusables), of which the few characters are kept here
that resemble the letters of program names.

Deliberately not here: which names are expected, and where (core.ports).
"""

import unicodedata
from typing import Final

_LOOKALIKES: Final = {
    "a": "\u0430\u0251\u03b1",
    "b": "\u0432\u042c",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u0454\u04bd3",
    "f": "\u0493",
    "g": "\u0261",
    "h": "\u04bb",
    "i": "\u00ec\u0456\u0131\u0269\u03b9",
    "j": "\u0458",
    "k": "\u043a\u03ba",
    "l": "\u04cf\u217c1|",
    "m": "\u043c",
    "n": "\u043f\u0578",
    "o": "\u043e\u03bf\u05850",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "r": "\u0433",
    "s": "\u04555",
    "t": "\u0442\u03c4",
    "u": "\u03c5\u057d",
    "v": "\u03bd\u0475",
    "w": "\u0461\u051d",
    "x": "\u0445\u03c7",
    "y": "\u0443\u03b3",
    "z": "\u1d22",
}
"""For each letter, the characters that look like it: Cyrillic, Greek, Armenian, phonetic, digits."""

_LETTERS: Final = str.maketrans(
    {alike: letter for letter, alikes in _LOOKALIKES.items() for alike in alikes}
)
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("ii", "n"))
_LEAST_CHARS: Final = 7
"""Names this short are one key from too many honest ones (`smc.exe` from `sc.exe`)."""


def skeleton(name: str) -> str:
    """Return what the eye keeps of a name."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_LETTERS)
    visible = "".join(c for c in plain if c.isprintable() and not unicodedata.combining(c))
    for pair, letter in _PAIRS:
        visible = visible.replace(pair, letter)
    return visible.replace("i", "l").replace(" ", "")


def looks_like(name: str, genuine: str) -> bool:
    """Return whether `name` could be taken for `genuine`; also where it is the same name.

    Near misses: a name that only contains the other (`rtvscan-notes.exe`) does not look like it.
    """
    one, other = skeleton(name), skeleton(genuine)
    if one == other:
        return True
    return len(genuine) > _LEAST_CHARS and _is_one_key_away(one, other)


def _is_one_key_away(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    if len(longer) - len(shorter) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(shorter))
    if len(one) != len(other):
        return shorter[at:] == longer[at + 1 :]
    swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return swapped or one[at + 1 :] == other[at + 1 :]
