"""Where webhooks may go: a rule for addresses as they are written, and one for the numbers they lead to.

What it does: refuses what is not a plain public https address, and every IP address that is not public: an endpoint must not
be a way into the network that the server stands in. What it does not: resolve names or connect (``sender.py``, which asks
again about the very number that it connects to). Called by ``routes/webhooks.py`` and ``sender.py``.
"""

import ipaddress
import re
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings

# At most 253 characters of labels. Anything else that a URL may hold in its place has no business in a host's name.
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
# "2130706433", "0177.0.0.1", "0x7f.1": resolvers read them as numbers though they are no addresses in the usual form.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa")
_PORTS = {"https": 443, "http": 80}

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not public though ``is_global`` may say so: the cloud's own services, relays into IPv4, and IPv4 in IPv6's clothes.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address taken apart."""

    url: str
    scheme: str
    host: str
    """In lower case, without brackets; a name, or a number in its usual form."""
    port: int


def is_public(text: str) -> bool:
    """True for an IP address of the public internet; what is wrapped in an IPv6 address counts as what it wraps."""
    address: _IPAddress = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid 'url': {reason}", code="invalid_value", param="url")


def target_of(url: str, settings: Settings) -> Target:
    """The address, if webhooks may go there as far as its text tells.

    Raises:
        InvalidRequest: not an absolute https address (http where the setting allows it), with credentials or a fragment, another
            port than the scheme's, or a host that is no public one. With ``webhooks_allow_private`` any port and host will do.
    """
    # Read by the library that sends, so that both mean the same host. It takes a tenth of a second to import.
    import httpx2

    try:
        parsed = httpx2.URL(url)
        host = parsed.raw_host.decode("ascii")
        port = parsed.port
    except (httpx2.InvalidURL, ValueError) as error:
        raise _refused("it is not a valid URL.") from error
    schemes = ("https", "http") if settings.webhooks_allow_http else ("https",)
    if parsed.scheme not in schemes or not host:
        raise _refused(f"expected an absolute URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    if parsed.userinfo or parsed.fragment:
        raise _refused("a webhook's address has neither credentials nor a fragment.")
    port = _PORTS[parsed.scheme] if port is None else port
    if not 1 <= port <= 65535:
        raise _refused(f"{port} is not a TCP port.")
    if not _is_number(host) and (not _NAME.fullmatch(host) or _NUMBER.fullmatch(host)):
        raise _refused("its host is neither a name nor an IP address in the usual form.")
    if not settings.webhooks_allow_private:
        if port != _PORTS[parsed.scheme]:
            raise _refused(f"only the port {_PORTS[parsed.scheme]} is allowed.")
        local = any(host == name or host.endswith("." + name) for name in _LOCAL_NAMES)
        if local or (_is_number(host) and not is_public(host)):
            raise _refused(
                "its host is not on the public internet. A server on a private network allows it by LUTHIER_WEBHOOKS_ALLOW_PRIVATE."
            )
    return Target(url=url, scheme=parsed.scheme, host=host, port=port)
