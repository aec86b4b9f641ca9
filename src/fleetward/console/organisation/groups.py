"""Acts on groups and sites: each changes rows and the audit log as one."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import ProtectedError

from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import Group, Site
from fleetward.console.organisation.people import Refused, keeping_an_administrator
from fleetward.console.permissions import Role
from fleetward.console.wiring import wired


def described_group(group: Group) -> dict[str, object]:
    """Return a group as the audit log shows it."""
    sites: object = "every" if group.every_site else sorted(site.name for site in group.sites.all())
    return {"role": group.role, "sites": sites}


def save_group(
    actor: Actor, group: Group, *, name: str, role: Role, every_site: bool, sites: Sequence[Site]
) -> Group:
    """Add a group, or change one.

    Raises:
        ValidationError: the name will not do, or is taken.
        Refused: nobody would be left who administers.
    """
    before = described_group(group) if group.pk else None
    group.name, group.role, group.every_site = name.lower(), role.value, every_site
    group.full_clean()
    with keeping_an_administrator():
        group.save()
        group.sites.set(sites)
        after = described_group(group)
        record(actor, "groups.manage", f"group:{group.name}", before=before, after=after)
    return group


def remove_group(actor: Actor, group: Group) -> None:
    """Remove a group; its members lose what it gave.

    Raises:
        Refused: nobody would be left who administers.
    """
    before = described_group(group) | {"members": sorted(u.username for u in group.members.all())}
    name = group.name
    with keeping_an_administrator():
        group.delete()
        record(actor, "groups.manage", f"group:{name}", before=before)


def save_site(actor: Actor, site: Site, *, name: str, title: str) -> Site:
    """Add a site, or change one.

    Raises:
        ValidationError: the name will not do, or is taken.
    """
    before = {"name": site.name, "title": site.title} if site.pk else None
    if before is None:
        site.created = wired().clock.now()
    site.name, site.title = name.lower(), title
    site.full_clean()
    with transaction.atomic():
        site.save()
        after: dict[str, object] = {"name": site.name, "title": title}
        record(actor, "sites.manage", f"site:{site.name}", before=before, after=after)  # type: ignore[arg-type]
    return site


def remove_site(actor: Actor, site: Site) -> None:
    """Remove a site that nothing lies at.

    Raises:
        Refused: hosts, relays or others refer to it.
    """
    name, before = site.name, {"title": site.title}
    try:
        with transaction.atomic():
            site.delete()
            record(actor, "sites.manage", f"site:{name}", before=dict(before))
    except ProtectedError as error:
        raise Refused("hosts or other things lie at this site; move them first") from error
