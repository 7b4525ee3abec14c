"""What is to be done when etcd says no."""

from __future__ import annotations

from pingap.config.storage.etcd.address import EtcdAddress
from pingap.config.storage.etcd.gateway import EtcdError


def why_denied(error: EtcdError, address: EtcdAddress, prefix: str = "") -> str:
    """A hint; "" when it was no question of who asks. prefix: of the keys; "" for the configuration's."""
    text = str(error)
    if "user name is empty" in text or "invalid auth token" in text:
        return "etcd asks who we are: add ?user=NAME&password=$ENV:NAME"
    if "permission denied" in text:
        whom = address.user or "nobody in particular"
        return f"{whom} must be allowed to read and write keys that begin with {prefix or address.prefix} (etcdctl role grant-permission)"
    return ""


def why_too_large(error: EtcdError) -> str:
    """A hint; "" when it was no question of size."""
    if "request is too large" in str(error) or "larger than max" in str(error):
        return "one document has more than etcd takes (its --max-request-bytes, 1.5 MiB by default)"
    if "too many operations" in str(error):
        return "this etcd was started with a --max-txn-ops of less than 128"
    return ""
