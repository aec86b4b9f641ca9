"""A whole fleet on one machine, for people: origin, relay and hosts on loopback, in acts.

`content` finds the releases; `stage` runs the programs, with real sockets and folders; `acts` is
the story and its claims, each with evidence; `screen` shows it. The demo uses the programs'
own code throughout: nothing is simulated but the attacker.
"""
