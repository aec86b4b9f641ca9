"""What `agent status` and `agent update --json` say: documents for machines."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetward.agent.following import ProductReport
from fleetward.agent.records import Record
from fleetward.agent.updating import LastCheck, UpdateReport
from fleetward.agent.verifying import Verified
from fleetward.core.limits import FROZEN_AFTER_INTERVALS


@dataclass(frozen=True, slots=True)
class TimestampAge:
    """What the host knows of the newest timestamp that it verified."""

    issued: datetime
    interval: timedelta
    expires: datetime


def freshness(
    now: datetime,
    check: LastCheck | None,
    timestamp: TimestampAge | None,
    records: tuple[Record, ...],
) -> str | None:
    """Return `expired`, `frozen`, `behind` or `current`; None before the first check.

    A host whose last check reached no source is `frozen` once the newest timestamp that it has is
    older than three of its intervals.
    """
    if check is None or timestamp is None:
        return None
    if now > timestamp.expires:
        return "expired"
    too_old = now - timestamp.issued > FROZEN_AFTER_INTERVALS * timestamp.interval
    if check.frozen or (check.error is not None and too_old):
        return "frozen"
    if any(r.current is None or r.current.release != r.channel_release for r in records):
        return "behind"
    return "current"


def product_status(record: Record) -> dict[str, Any]:
    """Return one product as `fleetward.status/1` has it."""
    current, previous = record.current, record.previous
    return {
        "product": record.product,
        "channel": record.channel,
        "release": current.release if current else None,
        "seq": current.seq if current else None,
        "tree": current.tree if current else None,
        "state": record.state.value,
        "previous": previous.release if previous else None,
        "reason": record.reason or _gone_back(record),
    }


def _gone_back(record: Record) -> str | None:
    if record.current is None or record.current.seq >= record.greatest_seq:
        return None
    return (
        f"the channel went back to sequence number {record.current.seq}; this host has had "
        f"{record.greatest_seq}"
    )


def status_document(
    host: str, records: tuple[Record, ...], fresh: str | None, check: LastCheck | None
) -> dict[str, Any]:
    """Return the status of a host, without its schema."""
    return {
        "host": host,
        "products": [product_status(record) for record in records],
        "freshness": fresh,
        "checked": check.checked if check else None,
        "source": check.source if check else None,
        "found_by": check.found_by if check else None,
        "error": check.error if check else None,
        "remarks": list(check.remarks) if check else [],
    }


def update_document(report: UpdateReport) -> dict[str, Any]:
    """Return what a run did, without its schema."""
    return {
        "host": report.host,
        "exit_code": report.exit_code,
        "source": report.check.source,
        "found_by": report.check.found_by,
        "frozen": report.check.frozen,
        "error": report.check.error,
        "remarks": list(report.check.remarks),
        "products": [_product_update(product) for product in report.products],
    }


def _product_update(report: ProductReport) -> dict[str, Any]:
    return {
        **product_status(report.record),
        "outcome": report.outcome.value,
        "means": list(report.means),
        "blob_bytes": report.blob_bytes,
        "reason": report.reason or report.record.reason,
    }


def verify_document(host: str, found: tuple[Verified, ...]) -> dict[str, Any]:
    """Return what `agent verify` found, without its schema."""
    return {
        "host": host,
        "intact": all(product.intact for product in found),
        "products": [
            {
                **product_status(product.record),
                "intact": product.intact,
                "reason": product.reason,
                "differences": [{"path": d.path, "kind": d.kind} for d in product.differences],
            }
            for product in found
        ],
    }
