"""The command line: parses, calls one library function, prints, maps an error to an exit code."""
