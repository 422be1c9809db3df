"""Where an experiment may come between a service and what it talks to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfloop.model.base import Word


class TapConfig(Word):
    """Where an experiment may put a tap between the service and a dependency, to count and delay its round trips; the service restarts before and after."""

    peer: Literal["postgresql", "mysql", "redis", "http"] = Field(description="What is spoken there.")
    file: str = Field(default="", description="The file of the service that holds the dependency's address, relative to this configuration.")
    key: str = Field(default="", description="Its dotted key: a URL, a DSN, host:port, or a port of this machine. Only the address in it is changed.")
    redirect: str = Field(
        default="",
        pattern=r"^$|^\d{1,3}(\.\d{1,3}){3}:\d{1,5}$",
        description="Instead of file and key: an IPv4 address and port whose new connections from this machine are redirected to the tap by nft, as root, without a restart.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> TapConfig:
        if bool(self.redirect) == bool(self.file and self.key):
            raise ValueError("a tap needs either file and key, or redirect")
        return self
