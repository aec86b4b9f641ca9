"""The frame of the API: tokens, problems, pages of rows, ETags."""
