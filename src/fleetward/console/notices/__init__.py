"""Telling people: webhooks, e-mail and syslog, with a damper and a test button.

Other parts call `outbox.announce`; what they announce, and when, is theirs.
"""
