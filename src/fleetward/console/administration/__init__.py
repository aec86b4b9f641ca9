"""Pages and API of the organisation itself: people, groups, sites, tokens, and the audit log."""
