"""`[[mirror]]` and `[[passthrough]]` in a relay's TOML file."""

from datetime import timedelta
from pathlib import Path

import pytest

from conftest import REPOSITORY
from fleetward.config.relay import MirrorSettings, PassthroughSettings, RelayFileSettings
from fleetward.config.strict import parse_settings, toml_text
from fleetward.errors import ConfigurationError

WHOLE = """
upstreams = ["https://origin.example"]

[[mirror]]
product = "clamav"
home = "/var/lib/fleetward"
stay = 30

[[mirror]]
product = "suricata"
home = "/var/lib/fleetward"
folder = "/srv/suricata"

[[passthrough]]
name = "debian"
upstream = "http://deb.example/debian"
paths = ["/dists/", "/pool/"]
immutable = ["/pool/"]
proxy_requests = true
revalidate = 60

[[passthrough]]
name = "sep"
upstream = "http://sepm.example:8014"
paths = ["/content/"]
mount = "/content/"
allow_private = true
query = "keep"
max_stale = 3600
max_file = 1000
quota = 2000
follow_redirects = false
"""


def test_a_whole_file() -> None:
    settings = parse_settings(WHOLE, RelayFileSettings)
    assert settings.mirror == (
        MirrorSettings(
            product="clamav", home=Path("/var/lib/fleetward"), stay=timedelta(seconds=30)
        ),
        MirrorSettings(
            product="suricata", home=Path("/var/lib/fleetward"), folder=Path("/srv/suricata")
        ),
    )
    assert settings.passthrough == (
        PassthroughSettings(
            name="debian",
            upstream="http://deb.example/debian",
            paths=("/dists/", "/pool/"),
            immutable=("/pool/",),
            proxy_requests=True,
            revalidate=timedelta(minutes=1),
        ),
        PassthroughSettings(
            name="sep",
            upstream="http://sepm.example:8014",
            paths=("/content/",),
            mount="/content/",
            allow_private=True,
            query="keep",
            max_stale=timedelta(hours=1),
            max_file=1000,
            quota=2000,
            follow_redirects=False,
        ),
    )
    assert parse_settings(toml_text(settings), RelayFileSettings) == settings


def test_private_addresses_are_refused_unless_written() -> None:
    assert not PassthroughSettings(name="x", upstream="http://x.example").allow_private


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('product = "suricata"', 'product = "clamav"', "two mirrors one product"),
        ('name = "sep"', 'name = "debian"', "two passthroughs have one name"),
        ('name = "sep"', 'name = "sep"\nmounts = "/x/"', "did you mean 'mount'"),
        ("immutable = [", 'mount = "/content/"\nimmutable = [', "one mount"),
        ('home = "/var/lib/fleetward"\nstay = 30', "stay = 30", "home"),
        ("stay = 30", "stay = -1", "stay"),
        ("max_file = 1000", "max_file = 3000", "max_file"),
        ("revalidate = 60", "revalidate = -60", "revalidate"),
        ('query = "keep"', 'query = "some"', "write 'ignore' or 'keep'"),
        ('"/dists/", ', '"dists/", ', "absolute"),
        ('mount = "/content/"', 'mount = "/v1/x/"', "none of the relay's own"),
    ],
)
def test_a_mistake_says_what_to_write(old: str, new: str, complaint: str) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(WHOLE.replace(old, new, 1), RelayFileSettings)
    assert complaint in str(caught.value)


def test_the_examples_in_the_documentation_are_settings() -> None:
    page = (REPOSITORY / "docs" / "mirrors.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    settings = parse_settings("\n".join(blocks), RelayFileSettings)
    assert [one.name for one in settings.passthrough] == ["debian", "sep"]
    assert [one.product for one in settings.mirror] == ["clamav"]
    plain = PassthroughSettings(name="debian", upstream="http://deb.debian.org/debian")
    documented = settings.passthrough[0]
    for key in ("revalidate", "max_stale", "query", "max_file", "quota", "follow_redirects"):
        assert getattr(documented, key) == getattr(plain, key), "what is shown is the default"
