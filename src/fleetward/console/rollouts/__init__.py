"""The rollouts as the console sees them: which waves are open, and what the hosts in them did.

What a channel says is what was verified (catalogue); what hosts did is what they signed (fleet). In
which wave a host is follows from its record and the channel's salt, as on the host itself.

Deliberately not here: opening a wave, pausing, halting, reverting. The steward signs those, and this
console holds no key that could.
"""
