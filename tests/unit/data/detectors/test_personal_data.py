"""Personal data: what proves itself is found, what nobody owns or what only looks like it is not."""

import pytest

from luthier.data.detectors.checksums import is_american_id, is_french_id, is_iban, is_italian_id, is_payment_card, is_spanish_id
from luthier.data.detectors.personal_data import find_personal, phone_finder

PHONES = phone_finder()
FOUND = {
    "ann.lee@mail.org": "emails",
    "ann+work@post.mail.co.uk": "emails",
    "élodie@mail.fr": "emails",
    "4539 1488 0343 6467": "cards",
    "4539148803436467": "cards",
    "5425-2334-3010-9903": "cards",
    "3742 454554 00126": "cards",
    "FR76 3000 6000 0112 3456 7890 189": "ibans",
    "DE89370400440532013000": "ibans",
    "GB29 NWBK 6016 1331 9268 19": "ibans",
    "536-90-4399": "ids",
    "1 85 05 78 006 084 91": "ids",
    "185057800608491": "ids",
    "RSSMRA85T10A562S": "ids",
    "81.2.69.142": "ips",
    "2a01:e34:ec12:3456::1": "ips",
    "415-286-4371": "phones",
    "(415) 286-4371": "phones",
    "+1 415 286 4371": "phones",
    "+33 6 12 34 56 78": "phones",
    "+33612345678": "phones",
    "06 12 34 56 78": "phones",
    "01.42.68.53.00": "phones",
    "020 7946 0958": "phones",
}
NOT_FOUND = [
    "ann@example.com, user@test.example, you@yourdomain.com",
    "git@github.com:owner/name.git",
    "noreply@mail.org",
    "logo@2x.png and @ann and a @ b",
    "https://ann:Tr0ub4dor3@db.mail.org/x",
    "4111 1111 1111 1111",
    "4242424242424242",
    "4539 1488 0343 6468",
    "order 1234567890123456",
    "0.4539148803436467 and 1.4539148803436467",
    "FR76 3000 6000 0112 3456 7890 188",
    "IT WAS IN 2019 OR 2020 THAT WE MET",
    "123-45-6789",
    "000-12-3456",
    "1 85 05 78 006 084 92",
    "RSSMRA85T10A562T",
    "10.0.0.1, 127.0.0.1, 192.168.1.20, 8.8.8.8",
    "version 81.2.69.142",
    "section 1.2.3.4, v4.3.2.10",
    "999.2.69.142 and 81.2.69.142.7",
    "at 12:30:45:10 o'clock, fe80::1, ::1",
    "2019-03-01, 01.03.2019 and 2019/03/01",
    "from 2019-03-01 to 2019-04-01",
    "call on 2019-03-01",
    "1234567 apples and 12 345 678 pears",
    "202-555-0143 is for films, (202) 555-0143 too",
    "123-456-7890",
    "ISBN 978-3-16-148410-0",
    "2 * 3 = 6, 100,000,000 and 3.14159265358979",
    "12345678Z",
    "550e8400-e29b-41d4-a716-446655440000",
    "pages 100-110, 200-210, 1990-1995",
    "11 + 22 - 33 (44) 55.66",
]


def _found(text: str) -> list[tuple[str, str]]:
    assert PHONES is not None
    return [(text[span.start : span.end], span.kind.value) for find in (find_personal, PHONES) for span in find(text)]


@pytest.mark.parametrize("frame", ["{}", "It is {}.", "({}), or so", "a: {}\nb", "“{}”", "est {} ?"])
@pytest.mark.parametrize("value", FOUND)
def test_personal_data_is_found_whole(value: str, frame: str) -> None:
    assert _found(frame.format(value)) == [(value, FOUND[value])]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_nobody_owns_or_what_proves_nothing_is_left(text: str) -> None:
    assert _found(text) == []


def test_a_telephone_number_without_a_form_of_its_own_needs_a_word_before_it() -> None:
    assert _found("my phone number is 4152864371.") == [("4152864371", "phones")]
    assert _found("the number is 4152864371.") == []


def test_a_spanish_number_needs_its_name_before_it() -> None:
    assert _found("DNI: 12345678Z") == [("12345678Z", "ids")]
    assert _found("DNI: 12345678A") == []


def test_an_iban_ends_where_its_country_says() -> None:
    assert _found("DE89 3704 0044 0532 0130 00 BIC COBADEFF") == [("DE89 3704 0044 0532 0130 00", "ibans")]


@pytest.mark.parametrize("piece", ["a@", "1 ", "AA11", "1.", "a:", "DNI ", "(1", "@a.", "+1 415 286 437"])
def test_a_hostile_text_has_nothing_and_ends(piece: str) -> None:
    assert _found(piece * (100_000 // len(piece))) == []


def test_checksums_refuse_every_changed_digit() -> None:
    for check, right in (
        (is_payment_card, "4539148803436467"),
        (is_iban, "DE89370400440532013000"),
        (is_french_id, "185057800608491"),
        (is_spanish_id, "12345678Z"),
    ):
        assert check(right)
        for place, mark in enumerate(right):
            if mark.isdigit():
                wrong = right[:place] + str((int(mark) + 1) % 10) + right[place + 1 :]
                assert not check(wrong), wrong
    assert is_italian_id("RSSMRA85T10A562S")
    assert not is_italian_id("RSSMRA86T10A562S")


def test_american_numbers_that_were_never_given_are_none() -> None:
    assert is_american_id("536904399")
    assert not any(is_american_id(number) for number in ("000904399", "666904399", "936904399", "536004399", "536900000"))
