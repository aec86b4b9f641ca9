"""Where relays are: DNS SRV and mDNS, as unverified hints of addresses to try."""
