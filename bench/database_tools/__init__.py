"""What the rows of the database bench share: servers below ``.bench/``, TPC-H in them."""
