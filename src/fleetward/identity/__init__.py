"""Who speaks: keys of hosts and consoles, what they sign, what is sealed, how hosts are enrolled.

The order of a check-in's life, and who does what:

    host     checkins.seal_check_in     seals the content to the console and signs the seal
    relay    dsse.verify_host           the signature is of the key whose digest is the host's id
    console  dsse.verify_host, then checkins.open_check_in, then: is this host enrolled?

`verify_…` and `open_…` return a type that only they make, or raise; nothing returns a bool. The
caller still owes what each docstring says. Only this layer imports PyNaCl.
"""
