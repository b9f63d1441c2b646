"""Advice about the proxies of the environment, through which requests go."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_advice(url: str) -> str:
    """Return the end of a message about a server that cannot be reached, if a proxy is between."""
    parts = urlsplit(url)
    proxies = getproxies()
    name = next((each for each in (parts.scheme, "all") if proxies.get(each)), None)
    if name is None or not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    proxy = urlsplit(proxies[name])  # shown without its password
    place = f"{proxy.hostname}:{proxy.port}" if proxy.port else proxy.hostname
    return (
        f" through the proxy {place} of the variable {name.upper()}_PROXY; NO_PROXY lists the"
        " hosts that are reached without it"
    )


def has_no_proxy() -> bool:
    """Return whether plain requests go directly to any server."""
    proxies = getproxies()
    return not proxies.get("http") and not proxies.get("all")
