"""What hosts send, past Django's middleware: check-ins, inboxes, enrolments; 8,000 check-ins/s.

application   ASGI: bodies in, answers out; 2xx only when all that was taken is durable
batching      gathers what comes at once; opens it aside; stores it in one transaction
opening       signatures verified, seals opened, forms checked: in threads or processes
enrolling     requests for enrolment, verified and answered together
asking        whether a host's inbox has news, for all that ask at once
deciding      what each check-in changes, by core.checkins: pure
storing       what is known of hosts, in; what changed, out: one writer
statuses      what hosts run, and the transitions
bulk          many rows in one statement, for SQLite and PostgreSQL
"""
