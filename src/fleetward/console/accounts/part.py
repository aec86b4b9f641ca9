"""What the accounts add to the console."""

from fleetward.console.accounts import care, login, own
from fleetward.console.parts import Page, Part
from fleetward.console.permissions import Gate

_OPEN = {"GET": Gate.OPEN, "POST": Gate.OPEN}
_OWN = {"GET": Gate.SIGNED_IN, "POST": Gate.SIGNED_IN}
_OWN_ACT = {"POST": Gate.SIGNED_IN}

PART = Part(
    name="accounts",
    pages=(
        Page("login/", "login", login.login, _OPEN),
        Page("login/code/", "code", login.code, _OPEN),
        Page("logout/", "logout", login.logout, _OWN_ACT),
        Page("account/", "account", own.account, {"GET": Gate.SIGNED_IN}),
        Page("account/confirm/", "confirm", login.confirm, _OWN),
        Page("account/password/", "password", own.password, _OWN),
        Page("account/second-factor/", "second-factor", own.second_factor, _OWN),
        Page("account/second-factor/remove/", "remove-factor", own.remove_factor, _OWN_ACT),
        Page("account/recovery-codes/", "new-codes", own.new_codes, _OWN_ACT),
        Page("theme/", "theme", own.theme, {"POST": Gate.OPEN}),
    ),
    background=(care.sweep_for_ever,),
)
