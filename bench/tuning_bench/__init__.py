"""Four real servers with their distribution's defaults, each under a load that hurts."""
