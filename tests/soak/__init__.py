"""A node left alone for days in compressed time, under every fault there is: ``make soak``."""
