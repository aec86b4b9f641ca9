"""The organisation: its sites, people, groups and API tokens.

Every other part refers to a site as `organisation.Site`, and to a person as `organisation.User`.
"""
