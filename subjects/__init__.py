"""The wire contract: names, messages, the registry that binds them, and the errors they can raise.

Everything a program needs to take part in EVY is here and imports msgspec alone.
"""
