"""The account with a provider that a DnsAccess names."""

from __future__ import annotations

import threading

from pingap.config.dns_service import parse_dns_service
from pingap.config.problems import BadValue
from pingap.stages.acme.dns.ali import Aliyun
from pingap.stages.acme.dns.cf import Cloudflare
from pingap.stages.acme.dns.huawei import Huawei
from pingap.stages.acme.dns.provider import DnsProvider
from pingap.stages.acme.dns.tencent import Tencent
from pingap.stages.acme.presenter import NotPresented
from pingap.stages.acme.wanted import DnsAccess

_KINDS = {one.name: one for one in (Aliyun, Cloudflare, Huawei, Tencent)}


def provider_for(access: DnsAccess, halted: threading.Event) -> DnsProvider | None:
    """None for `manual`. Raises NotPresented where `dns_service_url` is of no use, which a check of the configuration says before."""
    if access.provider == "manual":
        return None
    try:
        service = parse_dns_service(access.provider, access.service_url)
    except BadValue as error:
        raise NotPresented(f"dns_service_url: {error.message}" + (f" ({error.hint})" if error.hint else "")) from None
    return _KINDS[access.provider](service, halted)
