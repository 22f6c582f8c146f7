"""Stand-ins for hardware and networks; they meet EVY on a serial line or on the bus only."""
