"""The frame around every page: middleware, headers, errors, navigation, static files."""
