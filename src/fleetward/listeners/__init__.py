"""Who listens on this machine: sockets and their owners, for the agent and the port watch alike."""
