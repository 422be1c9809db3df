"""Journeys from what people have: an OpenAPI document, an access log. Pure."""
