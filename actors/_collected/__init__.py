"""Questions that nobody could answer, from the node that heard them to the person who reads them.

A node lets them go (`leaving`), the centre keeps them (`store`) in clusters of one meaning (`clusters`).
"""
