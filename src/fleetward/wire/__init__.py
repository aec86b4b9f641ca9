"""Documents that cross a process boundary: decoded strictly, encoded canonically; pure."""
