"""Signing in: password, second factor, provider, fresh confirmation, one's own account.

No models of its own besides those of `organisation` and django-otp.
"""
