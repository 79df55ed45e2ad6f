"""Addresses that webhooks may not go to, as a class and not as a list of strings once reported."""

import pytest

from luthier.api.webhooks.addresses import is_public, target_of
from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings

STRICT = Settings()
OPEN = Settings(webhooks_allow_http=True, webhooks_allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1"),
        *("240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "::127.0.0.1", "::7f00:1"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"])
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        # Not an absolute https address.
        *("", "hooks.example.com", "//hooks.example.com/", "/hook", "https:///hook", "https://", "https:hooks.example.com"),
        *("http://hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com/"),
        # More than an address, or something that parsers disagree on.
        *("https://user:pass@hooks.example.com/", "https://user@hooks.example.com/", "https://hooks.example.com/#part"),
        *("https://hooks.example.com\\@127.0.0.1/", "https://hooks.example.com\n.example.org/", "https://hooks example.com/"),
        *("https://hooks%2eexample.com/", "https://hooks.example.com./", "https://-hooks.example.com/", "https://hooks..example.com/"),
        *("https://hooks.example.com:0/", "https://hooks.example.com:65536/", "https://hooks.example.com:x/", f"https://{'a' * 64}.com/"),
        # Numbers in the forms that resolvers read as well.
        *("https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.1/"),
        *("https://017700000001/", "https://0x7f.0.0.0x1/", "https://1.2.3.4.5/", "https://example.0x/", "https://256.1.1.1/"),
        *("https://127.0.0.1./", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/"),
        # Numbers and names of the inside.
        *("https://127.0.0.1/", "https://10.1.2.3/hook", "https://169.254.169.254/latest/meta-data/", "https://[::1]/", "https://0.0.0.0/"),
        *("https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/"),
        *("https://[64:ff9b::7f00:1]/", "https://224.0.0.1/", "https://[ff02::1]/"),
        *(
            "https://localhost/",
            "https://LOCALHOST/",
            "https://a.localhost/",
            "https://metadata.google.internal/",
            "https://printer.local/",
        ),
        # Another port.
        *("https://hooks.example.com:8443/", "https://hooks.example.com:22/", "https://1.1.1.1:80/"),
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        target_of(url, STRICT)
    assert (error.value.code, error.value.param) == ("invalid_value", "url")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example.com/in?token=1", "hooks.example.com"),
        ("HTTPS://Hooks.Example.COM", "hooks.example.com"),
        ("https://hooks.example.com:443/", "hooks.example.com"),
        ("https://1.1.1.1/", "1.1.1.1"),
        ("https://[2606:4700:4700::1111]/", "2606:4700:4700::1111"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://7eleven.example.com/", "7eleven.example.com"),
        ("https://my_hook.example.com/", "my_hook.example.com"),
    ],
)
def test_accepted(url: str, host: str) -> None:
    target = target_of(url, STRICT)
    assert (target.url, target.scheme, target.host, target.port) == (url, "https", host, 443)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:8080/hook", "127.0.0.1", 8080),
        ("http://localhost/", "localhost", 80),
        ("https://[::1]:8443/", "::1", 8443),
        ("https://intranet:9/", "intranet", 9),
    ],
)
def test_the_settings_open_the_inside(url: str, host: str, port: int) -> None:
    target = target_of(url, OPEN)
    assert (target.host, target.port) == (host, port)


def test_each_setting_opens_its_own_door_only() -> None:
    with pytest.raises(InvalidRequest, match="https://"):
        target_of("http://127.0.0.1/", Settings(webhooks_allow_private=True))
    with pytest.raises(InvalidRequest, match="LUTHIER_WEBHOOKS_ALLOW_PRIVATE"):
        target_of("http://127.0.0.1/", Settings(webhooks_allow_http=True))
    assert target_of("http://hooks.example.com/", Settings(webhooks_allow_http=True)).port == 80
    for odd in ("https://2130706433/", "https://0177.0.0.1/", "https://user@127.0.0.1/"):
        with pytest.raises(InvalidRequest):
            target_of(odd, OPEN)
