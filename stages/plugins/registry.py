"""Which plugins there are. The list is explicit: nothing registers itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pingap.config.model import Snapshot
from pingap.config.problems import Problem, nearest, path_of
from pingap.config.unsupported import BUILTIN_PLUGINS, LATER_BUILTIN_PLUGINS, PLUGIN_CATEGORIES
from pingap.stages.coding.rules import BUILTIN as CODINGS
from pingap.stages.plugins import user_code
from pingap.stages.plugins.api import Plugin
from pingap.stages.plugins.builtin.accept_encoding import AcceptEncoding
from pingap.stages.plugins.builtin.admin import Admin
from pingap.stages.plugins.builtin.basic_auth import BasicAuth
from pingap.stages.plugins.builtin.cache import Cache
from pingap.stages.plugins.builtin.combined_auth import CombinedAuth
from pingap.stages.plugins.builtin.compression import Compression
from pingap.stages.plugins.builtin.cors import Cors
from pingap.stages.plugins.builtin.csrf import Csrf
from pingap.stages.plugins.builtin.directory import Directory
from pingap.stages.plugins.builtin.forward_auth import ForwardAuth
from pingap.stages.plugins.builtin.geo_restriction import GeoRestriction
from pingap.stages.plugins.builtin.image_optim import ImageOptim
from pingap.stages.plugins.builtin.ip_restriction import IpRestriction
from pingap.stages.plugins.builtin.jwt import Jwt
from pingap.stages.plugins.builtin.key_auth import KeyAuth
from pingap.stages.plugins.builtin.limit import Limit
from pingap.stages.plugins.builtin.mock import Mock
from pingap.stages.plugins.builtin.ping import Ping
from pingap.stages.plugins.builtin.redirect import Redirect
from pingap.stages.plugins.builtin.referer_restriction import RefererRestriction
from pingap.stages.plugins.builtin.request_id import RequestId
from pingap.stages.plugins.builtin.response_headers import ResponseHeaders
from pingap.stages.plugins.builtin.stats import Stats
from pingap.stages.plugins.builtin.sub_filter import SubFilter
from pingap.stages.plugins.builtin.traffic_splitting import TrafficSplitting
from pingap.stages.plugins.builtin.ua_restriction import UaRestriction
from pingap.stages.plugins.validation import PluginRefused

CATEGORIES: Final[Mapping[str, type[Plugin[Any]]]] = {
    "accept_encoding": AcceptEncoding,
    "admin": Admin,
    "basic_auth": BasicAuth,
    "cache": Cache,
    "combined_auth": CombinedAuth,
    "compression": Compression,
    "cors": Cors,
    "csrf": Csrf,
    "forward_auth": ForwardAuth,
    "directory": Directory,
    "geo_restriction": GeoRestriction,
    "image_optim": ImageOptim,
    "ip_restriction": IpRestriction,
    "jwt": Jwt,
    "key_auth": KeyAuth,
    "limit": Limit,
    "mock": Mock,
    "ping": Ping,
    "redirect": Redirect,
    "referer_restriction": RefererRestriction,
    "request_id": RequestId,
    "response_headers": ResponseHeaders,
    "stats": Stats,
    "sub_filter": SubFilter,
    "traffic_splitting": TrafficSplitting,
    "ua_restriction": UaRestriction,
}
"""Category → plugin. `python` is the category of all others."""

OUR_CATEGORIES: Final = frozenset((*CATEGORIES, user_code.CATEGORY, *PLUGIN_CATEGORIES))
"""No installed package takes the place of one of these."""

BUILTIN_SECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    **CODINGS,
    "pingap:acceptEncodingAdjustment": {"category": "accept_encoding", "encodings": "zstd, br, gzip", "only_one_encoding": True},
    "pingap:ping": {"category": "ping", "path": "/ping"},
    "pingap:requestId": {"category": "request_id"},
    "pingap:stats": {"category": "stats", "path": "/stats"},
}
"""Instances that a location may name without a section; a section of the same name takes its place."""

BUILTIN_INSTANCES: Final = frozenset(BUILTIN_SECTIONS)
assert BUILTIN_INSTANCES == BUILTIN_PLUGINS, "config/unsupported.py names other built-in plugins"


def used(snapshot: Snapshot) -> list[str]:
    """Names of the plugins that a location has."""
    return list(dict.fromkeys(name for location in snapshot.locations.values() for name in location.plugins))


def section_of(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The section of a plugin. Raises PluginRefused when there is none."""
    section = snapshot.plugins.get(name) or BUILTIN_SECTIONS.get(name)
    if section is None:
        path = path_of("plugins", name)
        if name in LATER_BUILTIN_PLUGINS:
            raise PluginRefused([Problem(path, f"not supported yet: the plugin {name!r}")])
        raise PluginRefused([Problem(path, f"plugin {name!r} does not exist", nearest(name, {*snapshot.plugins, *BUILTIN_SECTIONS}))])
    return section
