"""A memory card that loses power, fills up, is slow or fails: a file system to put under real programs.

``python -m simulators.disk MOUNTPOINT --backing DIRECTORY --control SOCKET`` mounts it (Linux, as root);
:func:`simulators.disk.client.mounted` does so for a test. Nothing is installed for it: the kernel's FUSE
protocol is spoken directly.
"""
