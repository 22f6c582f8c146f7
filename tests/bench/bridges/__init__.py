"""Edge and centre joined by somebody's bridge: EVY's leaf link, and what others would take for it."""
