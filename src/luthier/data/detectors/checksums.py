"""Numbers that prove themselves: payment cards, IBANs and national ids, by their published checksums.

What it does: Luhn (ISO/IEC 7812-1), modulo 97 (ISO 13616, and the French social security number), and the letter of Italian codes.
What it does not: find candidates in a text (``personal_data.py``).
"""

_CARD_LENGTHS = {"34": (15,), "37": (15,), "36": (14,), "38": (14,), "4": (13, 16, 19)}
# Numbers that payment companies publish for tests: nobody owns them.
_TEST_CARDS = frozenset(
    {
        *("4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "4000000000000002", "4917610000000000"),
        *("5555555555554444", "5105105105105100", "5200828282828210", "2223003122003222", "378282246310005", "371449635398431"),
        *("6011111111111117", "6011000990139424", "3056930009020004", "36227206271667", "38520000023237", "3566002020360505"),
    }
)
_IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22},
    **{"CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22},
    **{"GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30},
    **{"KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31},
    **{"MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24},
    **{"SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
}
_CODICE_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
# Printed in advertisements and manuals.
_WELL_KNOWN_SSN = frozenset({"078051120", "219099999", "123456789", "457555462", "111111111"})


def is_payment_card(digits: str) -> bool:
    """Whether digits are the number of a payment card: a known issuer's beginning and length, and Luhn's sum."""
    return digits not in _TEST_CARDS and len(digits) in _lengths(digits) and len(set(digits)) > 2 and _luhn(digits)


def _lengths(digits: str) -> tuple[int, ...]:
    known = _CARD_LENGTHS.get(digits[:2]) or _CARD_LENGTHS.get(digits[:1])
    if known:
        return known
    head = int(digits[:4])
    if 5100 <= head <= 5599 or 2221 <= head <= 2720 or head == 6011 or 6440 <= head <= 6599 or 3528 <= head <= 3589:
        return (16,)
    return ()


def _luhn(digits: str) -> bool:
    total = sum(map(int, digits[-1::-2])) + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def iban_length(country: str) -> int:
    """How long an IBAN of a country is; 0 where there are none."""
    return _IBAN_LENGTHS.get(country, 0)


def is_iban(text: str) -> bool:
    """Whether letters and digits without spaces are an IBAN: the country's length, and 1 modulo 97."""
    if len(text) != iban_length(text[:2]):
        return False
    return int("".join(str(int(mark, 36)) for mark in text[4:] + text[:4])) % 97 == 1


def is_french_id(text: str) -> bool:
    """Whether 15 digits are a French social security number with its key."""
    return int(text[13:]) == 97 - int(text[:13]) % 97


def is_italian_id(text: str) -> bool:
    """Whether 16 letters and digits are an Italian *codice fiscale* with its letter."""
    total = 0
    for place, mark in enumerate(text[:15]):
        value = int(mark) if mark.isdigit() else ord(mark) - ord("A")
        total += value if place % 2 else _CODICE_ODD[value]
    return chr(ord("A") + total % 26) == text[15]


def is_spanish_id(text: str) -> bool:
    """Whether 8 digits (or X, Y, Z and 7) and a letter are a Spanish DNI or NIE."""
    number = text[:-1].replace("X", "0", 1).replace("Y", "1", 1).replace("Z", "2", 1)
    return number.isdigit() and _DNI_LETTERS[int(number) % 23] == text[-1]


def is_american_id(digits: str) -> bool:
    """Whether 9 digits can be a social security number of the United States. They have no checksum: areas and groups that were never given are left out."""
    area, block, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and block != "00" and serial != "0000" and digits not in _WELL_KNOWN_SSN
