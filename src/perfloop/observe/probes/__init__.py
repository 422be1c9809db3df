"""One probe a file: ``ID``, ``NEEDS``, ``COST`` and ``start(target, access)``; each only collects, and judges nothing."""
