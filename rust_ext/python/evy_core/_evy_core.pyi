"""Typed face of the Rust core; the docstrings live here."""

class CoreError(ValueError):
    """Base of every error the core raises."""
