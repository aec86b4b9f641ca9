"""`fleetward origin …`: make releases, sign them, keep and serve the repository."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward.cli import origin_care, origin_fleet
from fleetward.cli.configured import ConfiguredTyper
from fleetward.cli.origin_wiring import (
    WAIT,
    Json,
    Keys,
    PassphraseFile,
    Product,
    Repo,
    Wait,
    keyring_at,
    say,
    say_outcome,
    step_bars,
    workshop_at,
)
from fleetward.cli.output import print_json, remarks
from fleetward.core.documents import Policy
from fleetward.core.limits import MAX_KEPT_DELTAS
from fleetward.core.names import parse_channel, parse_product, parse_release
from fleetward.errors import UsageError
from fleetward.origin import holders, products
from fleetward.origin.create import Plan, create
from fleetward.origin.keyring import KeyForm, PlainKeys, SealedKeys
from fleetward.origin.packing import EmptyTree
from fleetward.origin.publish import Order
from fleetward.origin.publish import publish as publish_order
from fleetward.origin.reporting import (
    outcome_document,
    pending_sentences,
    published_document,
    published_sentences,
)
from fleetward.origin.roles import Quorum
from fleetward.trust.keys import Sealer

app = ConfiguredTyper(no_args_is_help=True, pretty_exceptions_enable=False)
product_app = ConfiguredTyper(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(product_app, name="product", help="Products of the repository.")

KeyCount = Annotated[int, typer.Option("--offline-keys", min=1, help="Keys per offline role.")]
Threshold = Annotated[
    int, typer.Option("--offline-threshold", min=1, help="How many of them must sign.")
]
ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE")]


@app.command()
def init(
    repo: Repo,
    keys: Keys,
    plain_keys: Annotated[
        bool, typer.Option("--plain-keys", help="Keys without a passphrase: demos and tests.")
    ] = False,
    offline_keys: KeyCount = 3,
    offline_threshold: Threshold = 2,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Make a repository and its keys; nothing that exists is overwritten.

    REPO/metadata/1.root.json is the trust anchor that agents are given.

    Example: fleetward origin init /srv/repo --keys /root/keys
    """
    ring = keyring_at(keys, passphrase_file, twice=True)
    shop = workshop_at(repo, ring)
    quorum = Quorum(offline_keys, offline_threshold)
    form: KeyForm = PlainKeys() if plain_keys else SealedKeys(Sealer(ring.passphrase, shop.entropy))
    made = create(shop, form, Plan(root=quorum, targets=quorum, fleet=quorum))
    if json:
        document = {"repository": made.repository, "root": made.root, "keys": made.keys}
        print_json("fleetward.init/1", {name: str(path) for name, path in document.items()})
        return
    say([f"made {made.repository}; give agents {made.root}"])
    remarks.print(
        f"now move {made.keys / 'offline'} to media that are kept apart, one key to a person",
        soft_wrap=True,
    )


@product_app.command("add")
def product_add(
    repo: Repo,
    product: Product,
    keys: Keys,
    engine: Annotated[
        str | None, typer.Option("--engine", help="What loads its releases: files, yara, …")
    ] = None,
    threshold: Annotated[
        int, typer.Option("--threshold", min=1, max=2, help="1 of 1 key, or 2 of 2.")
    ] = 1,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Add a product: its keys, and its place in targets.

    Example: fleetward origin product add /srv/repo yara --keys /root/keys --threshold 2
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    change = products.add_product(shop, parse_product(product), threshold, engine)
    _say_change(f"{product} is added", change, json)


@app.command()
def publish(
    repo: Repo,
    product: Product,
    tree: Annotated[Path, typer.Argument(metavar="TREE", help="The folder to publish.")],
    keys: Keys,
    release: Annotated[
        str | None, typer.Option("--release", help="Its name; else YYYY.MM.DD-N.")
    ] = None,
    channel: Annotated[str, typer.Option("--channel", help="The channel that moves.")] = "stable",
    engine: Annotated[
        str | None, typer.Option("--engine", help="What loads it; else as before, else files.")
    ] = None,
    engine_min: Annotated[
        str | None, typer.Option("--engine-min", help="The oldest engine that can load it.")
    ] = None,
    engine_max: Annotated[
        str | None, typer.Option("--engine-max", help="The newest engine that can load it.")
    ] = None,
    urgent: Annotated[bool, typer.Option("--urgent", help="Passes the policy's ramp.")] = False,
    deltas: Annotated[
        int, typer.Option("--deltas", min=0, help="From how many releases deltas are made.")
    ] = MAX_KEPT_DELTAS,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="How many releases the metadata keeps.")
    ] = MAX_KEPT_DELTAS,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="TREE may hold no file.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Make a release of a folder and move a channel to it.

    What lacks a signature, or the online keys, is left pending; that is no error.

    Example: fleetward origin publish /srv/repo yara ./rules --keys /root/keys
    """
    order = Order(
        product=parse_product(product),
        tree=tree.absolute(),
        release=parse_release(release) if release else None,
        channel=parse_channel(channel),
        engine=engine,
        engine_min=engine_min,
        engine_max=engine_max,
        urgent=urgent,
        deltas=deltas,
        keep=keep,
        empty=EmptyTree.ALLOWED if allow_empty else EmptyTree.REFUSED,
    )
    ring = keyring_at(keys, passphrase_file)
    with step_bars() as bars:
        published = publish_order(workshop_at(repo, ring, wait, bars), order)
    if json:
        print_json("fleetward.publish/1", published_document(published))
    else:
        say(published_sentences(published))


@app.command()
def pending(repo: Repo, json: Json = False) -> None:
    """Say what is pending, and what a signer would sign.

    Example: fleetward origin pending /srv/repo
    """
    lines = pending_sentences(workshop_at(repo, keyring_at(repo / ".no-keys", None)))
    if json:
        print_json("fleetward.pending/1", {"pending": lines})
    else:
        say(lines or ["nothing is pending"])


@app.command()
def sign(
    repo: Repo,
    keys: Keys,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Add your signatures to what is pending (see it first with `pending`).

    Example: fleetward origin sign /srv/repo --keys /media/my-key
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    say_outcome("fleetward.sign/1", json, "signed", holders.sign_pending(shop))


@app.command()
def renew(
    repo: Repo,
    keys: Keys,
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]…", help="Else all that are due.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Sign root, targets, fleet and releases roles again, with a new expiry.

    Example: fleetward origin renew /srv/repo --keys /media/my-key root
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    renewed = holders.renew(shop, roles or ())
    did = f"renewed {', '.join(renewed.roles)}" if renewed.roles else "nothing is due"
    say_outcome("fleetward.renew/1", json, did, renewed.outcome)


@app.command()
def rotate(
    repo: Repo,
    role: Annotated[str, typer.Argument(metavar="ROLE")],
    keys: Keys,
    new_keys: Annotated[int, typer.Option("--new-keys", min=1, help="How many are made.")] = 1,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="KEYID", help="Else all old keys.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Give a role new keys in place of lost, stolen or old ones.

    Example: fleetward origin rotate /srv/repo root --keys /root/keys --new-keys 3
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    rotated = holders.rotate(shop, role, new_keys, drop or ())
    say_outcome("fleetward.rotate/1", json, f"{role} gets {new_keys} new keys", rotated.outcome)
    if not json:
        say(f"destroy the key {keyid} once nothing is pending" for keyid in rotated.dropped)


@app.command()
def floor(
    repo: Repo,
    product: Product,
    keys: Keys,
    seq: Annotated[int | None, typer.Option("--seq", min=0, help="The least number.")] = None,
    release: Annotated[str | None, typer.Option("--release", help="The least release.")] = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Set the oldest release that hosts may take from the network.

    Example: fleetward origin floor /srv/repo yara --release 2026.11.01-1 --keys /root/keys
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    name = parse_product(product)
    if release is not None and seq is None:
        seq = products.floor_at(shop, name, parse_release(release))
    elif seq is None or release is not None:
        raise UsageError("give either --seq or --release")
    _say_change(f"the floor of {product} is {seq}", products.set_floor(shop, name, seq), json)


@app.command()
def revoke(
    repo: Repo,
    product: Product,
    release: ReleaseArgument,
    keys: Keys,
    reason: Annotated[str, typer.Option("--reason", help="Why, for people.")],
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Forbid every host to run a release, for ever.

    Example: fleetward origin revoke /srv/repo yara 2026.11.24-1 --reason "hangs" --keys /root/keys
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    change = products.revoke(shop, parse_product(product), parse_release(release), reason)
    _say_change(f"{product} {release} is revoked", change, json)


@app.command()
def policy(
    repo: Repo,
    product: Product,
    keys: Keys,
    ramp: Annotated[
        str, typer.Option("--ramp", metavar="AGE:PERCENT,…", help="Ages in seconds; '' for none.")
    ],
    when_nothing_is_allowed: Annotated[
        str, typer.Option("--when-nothing-is-allowed", metavar="keep|none")
    ] = "keep",
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Set how fast the online keys may open a release.

    Example: fleetward origin policy /srv/repo yara --ramp 0:1,3600:10,86400:100 --keys /root/keys
    """
    if when_nothing_is_allowed not in {"keep", "none"}:
        raise UsageError("--when-nothing-is-allowed is `keep` or `none`")
    wanted = Policy(
        product=parse_product(product),
        ramp=products.parse_ramp(ramp),
        when_nothing_is_allowed="none" if when_nothing_is_allowed == "none" else "keep",
    )
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    _say_change(f"the policy of {product} is set", products.set_policy(shop, wanted), json)


def _say_change(did: str, change: products.Change, json: bool) -> None:
    for warning in change.warnings:
        remarks.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if json:
        document = {"changed": change.changed, "warnings": change.warnings}
        print_json("fleetward.change/1", {**document, **outcome_document(change.outcome)})
        return
    say_outcome("", False, did if change.changed else f"{did} already", change.outcome)


app.command("relays")(origin_fleet.relays)
app.command("console")(origin_fleet.console)
for _command in origin_care.COMMANDS:
    app.command(_command.name)(_command.function)
