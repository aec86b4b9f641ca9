"""The overview: the panels of all parts on one page; health and figures for machines."""
