"""The second factor: TOTP by django-otp, and recovery codes.

A device is confirmed once a first code was right; only then does login ask for it.
"""

import base64
import hashlib

import segno
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from fleetward.adapters.entropy import Entropy
from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import RecoveryCode, User
from fleetward.console.wiring import wired

RECOVERY_CODES = 10
"""How many recovery codes somebody gets."""

RECOVERY_BYTES = 10
"""Unpredictable bytes of one (guessing: 80 bits)."""


def device_of(user: User) -> TOTPDevice | None:
    """Return the confirmed device of somebody, or None."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).first()


def device_in_preparation(user: User) -> TOTPDevice:
    """Return the device that somebody is about to confirm, made where there is none."""
    known = TOTPDevice.objects.filter(user=user, confirmed=False).first()
    return known or TOTPDevice.objects.create(user=user, name="authenticator", confirmed=False)


def qr_svg(device: TOTPDevice) -> str:
    """Return the picture that an authenticator reads, as inline SVG."""
    code = segno.make(device.config_url, error="m")
    return code.svg_inline(border=2, omitsize=True, svgclass="qr", lineclass=None, light="#fff")


def secret_text(device: TOTPDevice) -> str:
    """Return the secret to type where no camera is, in groups of four."""
    secret = base64.b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))


def confirm_device(actor: Actor, device: TOTPDevice, code: str) -> list[str] | None:
    """Make a device the second factor if `code` is right; return new recovery codes, or None."""
    if not device.verify_is_allowed()[0] or not device.verify_token(_digits(code)):
        return None
    with transaction.atomic():
        device.confirmed = True
        device.save()
        codes = renew_recovery_codes(device.user)
        record(actor, "account.second-factor", f"user:{actor.name}", after={"confirmed": True})
    return codes


def renew_recovery_codes(user: User) -> list[str]:
    """Replace somebody's recovery codes; return the new ones, which are shown once."""
    codes = [_recovery_code(wired().entropy) for _ in range(RECOVERY_CODES)]
    with transaction.atomic():
        user.recovery_codes.all().delete()
        RecoveryCode.objects.bulk_create(
            RecoveryCode(owner=user, digest=_digest(code)) for code in codes
        )
    return codes


def _recovery_code(entropy: Entropy) -> str:
    text = base64.b32encode(entropy.token(RECOVERY_BYTES)).decode().lower()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def _digest(code: str) -> str:
    plain = "".join(code.lower().split()).replace("-", "")
    return hashlib.sha256(plain.encode()).hexdigest()


def _digits(code: str) -> str:
    return "".join(code.split())


def accepts(user: User, code: str) -> TOTPDevice | None:
    """Return the device that `code` opens: by TOTP, or by a recovery code, which is then spent.

    django-otp lets a device wait longer after each wrong code, and takes no code twice.
    """
    device = device_of(user)
    if device is None:
        return None
    if _digits(code).isdigit():
        is_right = device.verify_is_allowed()[0] and device.verify_token(_digits(code))
        return device if is_right else None
    spent = user.recovery_codes.filter(digest=_digest(code), used=None).update(
        used=wired().clock.now()
    )
    return device if spent else None


def remove_second_factor(actor: Actor, user: User) -> None:
    """Take somebody's second factor away, with the recovery codes."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        user.recovery_codes.all().delete()
        record(actor, "account.second-factor", f"user:{user.username}", after={"confirmed": False})
