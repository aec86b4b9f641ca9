"""The catalogue's figures in Prometheus' text format: what an alert of the operator's asks for."""

from collections.abc import Iterator

from fleetward.console.catalogue.models import Channel, Repository, Role
from fleetward.console.wiring import wired


def figures() -> str:
    """Return expiries, freshness and problems; empty where nothing is followed."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    row = Repository.objects.first()
    if row is None:
        return
    now = wired().clock.now()
    yield "# TYPE fleetward_repository_problem gauge"
    yield f'fleetward_repository_problem{{kind="{row.problem_kind or "none"}"}} {int(bool(row.problem_kind))}'
    yield "# TYPE fleetward_repository_frozen gauge"
    yield f"fleetward_repository_frozen {int(row.frozen)}"
    if row.refreshed is not None:
        yield "# TYPE fleetward_repository_refreshed_seconds gauge"
        yield f"fleetward_repository_refreshed_seconds {(now - row.refreshed).total_seconds():.0f}"
    yield "# TYPE fleetward_role_expires_seconds gauge"
    for role in Role.objects.exclude(expires=None):
        if role.expires is not None:
            left = (role.expires - now).total_seconds()
            yield f'fleetward_role_expires_seconds{{role="{role.role}"}} {left:.0f}'
    yield "# TYPE fleetward_channel_release_seq gauge"
    for channel in Channel.objects.filter(listed=True).select_related("product", "release"):
        labels = f'product="{channel.product.name}",channel="{channel.name}"'
        seq = channel.release.seq if channel.release else 0
        yield f"fleetward_channel_release_seq{{{labels}}} {seq}"
