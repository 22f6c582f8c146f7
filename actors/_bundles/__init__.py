"""Bundles: texts that a centre signs and a node applies, whole or not at all."""
