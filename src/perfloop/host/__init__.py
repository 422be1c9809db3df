"""The hands: processes, files, sockets, clocks and secrets of this machine."""
