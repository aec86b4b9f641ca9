"""Sweeps what logins leave behind: ended sessions, old attempts, second factors never confirmed."""

import asyncio
import logging
from datetime import timedelta

from axes.models import AccessAttempt, AccessFailureLog
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections
from django_otp.plugins.otp_totp.models import TOTPDevice

from fleetward.console.wiring import wired

EVERY = timedelta(hours=1)
"""How often it is swept."""

ATTEMPTS_KEPT = timedelta(days=1)
"""How long wrong passwords are counted at most; the cool-off is shorter."""

_log = logging.getLogger(__name__)


def sweep() -> None:
    """Sweep once."""
    now = wired().clock.now()
    Session.objects.filter(expire_date__lt=now).delete()
    kept = max(ATTEMPTS_KEPT, wired().settings.sign_in.cool_off)
    AccessAttempt.objects.filter(attempt_time__lt=now - kept).delete()
    AccessFailureLog.objects.filter(attempt_time__lt=now - kept).delete()
    TOTPDevice.objects.filter(confirmed=False, created_at__lt=now - ATTEMPTS_KEPT).delete()


async def sweep_for_ever() -> None:
    """Sweep now and then, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(_sweep)
        except DatabaseError:
            _log.exception("sweeping failed; the next time tries again")
        await asyncio.sleep(EVERY.total_seconds())


def _sweep() -> None:
    close_old_connections()
    try:
        sweep()
    finally:
        close_old_connections()
