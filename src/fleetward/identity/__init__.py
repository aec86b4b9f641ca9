"""Who signs a status report: host and console keys, DSSE envelopes, sealed payloads."""
