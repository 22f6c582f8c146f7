"""Public alerts: reading CAP, whom an alert concerns, and what it says in their language."""
