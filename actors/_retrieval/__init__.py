"""What retrieval on the node and at the centre share: vectors, ways to ask, and how sure a match is."""
