"""What we send: journeys, arrivals, engines, importers, and the search for the highest rate."""
