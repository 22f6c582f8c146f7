"""Who belongs to a mesh: its network file, the operator who signs it, and what a node has of it."""
