"""A tap on a TCP connection: counts round trips and can delay them, in a process of its own."""
