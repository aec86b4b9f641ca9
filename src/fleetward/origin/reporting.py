"""What the origin's commands say, as plain values for JSON and as sentences for people."""

from typing import Any

from fleetward.origin.finish import Outcome, Waiting
from fleetward.origin.publish import Published
from fleetward.origin.staging import Staging
from fleetward.origin.steward import Round
from fleetward.origin.workshop import Workshop


def waiting_document(waiting: tuple[Waiting, ...]) -> list[dict[str, Any]]:
    """Return what is pending, for JSON."""
    return [
        {"what": w.what, "missing": w.missing, "keyids": list(w.keyids), "reason": w.reason}
        for w in waiting
    ]


def waiting_sentences(waiting: tuple[Waiting, ...]) -> list[str]:
    """Return what is pending, for people."""
    sentences = []
    for each in waiting:
        if each.missing:
            keys = ", ".join(keyid[:12] for keyid in each.keyids)
            sentences.append(f"{each.what} waits for {each.missing} more signature(s) of: {keys}")
        else:
            sentences.append(f"{each.what} waits for {each.reason}")
    return sentences


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return what a commit did, for JSON."""
    return {"live": list(outcome.became_live), "waiting": waiting_document(outcome.waiting)}


def published_document(published: Published) -> dict[str, Any]:
    """Return what publish did, for JSON."""
    manifest = published.manifest
    return {
        "state": published.state,
        "product": manifest.product,
        "channel": published.channel,
        "release": manifest.release,
        "seq": manifest.seq,
        "tree": manifest.tree.sha256,
        "files": manifest.tree.files,
        "length": manifest.tree.length,
        "pack": manifest.pack.length,
        "deltas": [{"base": d.base, "codec": d.codec, "length": d.length} for d in manifest.deltas],
        "skipped": list(published.skipped),
        "waiting": waiting_document(published.waiting),
    }


def published_sentences(published: Published) -> list[str]:
    """Return what publish did, for people."""
    manifest = published.manifest
    at = f"{manifest.product}@{published.channel}"
    what = f"{manifest.release} (seq {manifest.seq}, {manifest.tree.files:,} files)"
    sizes = f"pack {manifest.pack.length:,} bytes"
    if manifest.deltas:
        first = manifest.deltas[0]
        sizes += f", delta from {first.base} {first.length:,} bytes, {len(manifest.deltas)} in all"
    states = {
        "published": f"published {at}: {what}; {sizes}",
        "pending": f"pending {at}: {what} is made and not live yet; {sizes}",
        "unchanged": f"unchanged {at}: it is {manifest.release} already, and nothing was written",
    }
    skipped = [f"no delta from {reason}" for reason in published.skipped]
    return [states[published.state], *skipped, *waiting_sentences(published.waiting)]


def round_document(done: Round) -> dict[str, Any]:
    """Return what a round of the steward did, for JSON."""
    due = [
        {"role": each.role, "expires": f"{each.expires:%Y-%m-%dT%H:%M:%SZ}"} for each in done.due
    ]
    return {"renewed": list(done.renewed), **outcome_document(done.outcome), "due": due}


def round_sentences(done: Round) -> list[str]:
    """Return what a round of the steward did, for people."""
    live = done.outcome.became_live
    return [
        f"made live: {', '.join(live)}" if live else "nothing was due",
        *waiting_sentences(done.outcome.waiting),
        *(f"{d.role} expires on {d.expires:%Y-%m-%d}: run `{d.command}`" for d in done.due),
    ]


def pending_sentences(shop: Workshop) -> list[str]:
    """Return what a signer would sign: how each pending role differs from the live one.

    Raises:
        ConfigurationError: there is no repository.
        MetadataError: the live metadata does not verify.
    """
    with shop.alone():
        staging = Staging(shop)
        sentences = [line for name in staging.roles for line in _difference(staging, name)]
        for (product, channel), wish in staging.wishes.items():
            sentences.append(f"channels/{product}/{channel}: to {wish.release.release}")
        return sentences


def _difference(staging: Staging, name: str) -> list[str]:
    role, live = staging.roles[name], staging.live(name)
    lines = [f"{name} {role.version}: valid until {role.expires:%Y-%m-%d}"]
    if name == "root":
        return lines + _keys(staging, name)
    before = live.targets if live else {}
    lines += [f"{name}: adds or changes {t}" for t, r in role.targets.items() if before.get(t) != r]
    lines += [f"{name}: drops {target}" for target in before if target not in role.targets]
    return lines + _keys(staging, name)


def _keys(staging: Staging, name: str) -> list[str]:
    live = staging.live(name)
    before = live.delegates if live else {}
    return [
        f"{name}: {role} is signed by {keys.threshold} of "
        + ", ".join(keyid[:12] for keyid in keys.keyids)
        for role, keys in staging.roles[name].delegates.items()
        if before.get(role) != keys
    ]
