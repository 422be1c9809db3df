"""Ranked causes from columns of metrics alone: for services that perfloop cannot look into, from an export of their monitoring."""
