"""The agent: verify, stage, preflight, activate, trial, confirm or roll back; it listens on nothing.

Who does what: `home` where things lie; `records` what is fsync'd per product; `slots` the folders
that readers open; `fetching` blobs from sources; `installer` drives core.install; `engines` asks
the engine; `updating` one run over all subscriptions; `verifying` finds drift; `reporting` status;
`running` the loop; `portwatch` who listens; `hearing` and `sensing` what it hears where it was asked to.
"""
