"""The ``[sms]`` table, with one modem and with several."""

import textwrap
import tomllib
from pathlib import Path

import pytest

from actors._cli.doctor import check_modem
from actors._runtime.config import Config
from actors.sms import SmsConfig
from actors.sms.choice import in_order
from subjects.errors import ConfigError

SEVERAL = """
[sms]
failover_after_s = 10
[sms.credit]
ussd = "*100#"

[[sms.modem]]
name = "home"
device = "/dev/none0"
per_day = 100

[[sms.modem]]
name = "abroad"
device = "/dev/none1"
driver = "at"
prefixes = ["+44", "0049", "+4930"]
credit = { ussd = "*101#" }
"""


def config(text: str) -> Config:
    return Config(tomllib.loads(text), Path("evy.toml"))


def sms(text: str) -> SmsConfig:
    return config(text).section("sms", SmsConfig)


def test_one_modem_needs_its_own_keys_only() -> None:
    (modem,) = sms('[sms]\ndevice = "/dev/ttyUSB0"\nper_hour = 60\n').modems
    assert (modem.name, modem.device, modem.per_hour, modem.credit) == ("modem", "/dev/ttyUSB0", 60, None)
    assert sms("[sms]\n").modems == ()


def test_several_modems_share_the_credit_table_unless_they_have_their_own() -> None:
    home, abroad = sms(SEVERAL).modems
    assert home.credit
    assert abroad.credit
    assert (home.name, home.credit.ussd, abroad.credit.ussd) == ("home", "*100#", "*101#")


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ('[sms]\ndevice = "/dev/a"\n[[sms.modem]]\ndevice = "/dev/b"\n', "device: with"),
        ('[[sms.modem]]\ndevice = "/dev/a"\n[[sms.modem]]\ndevice = "/dev/b"\n', "name of its own"),
        ('[[sms.modem]]\nname = "a"\n[[sms.modem]]\nname = "b"\ndevice = "/dev/b"\n', "device of its own"),
        ('[[sms.modem]]\ndevice = "/dev/a"\nprefixes = ["44x"]\n', "write the digits"),
        ('[[sms.modem]]\ndevice = "/dev/a"\nnam = "a"\n', "unknown field `nam`"),
        ('[sms]\ndevice = "/dev/a"\nname = "A modem!"\n', "lower case"),
        ('[sms]\ndevice = "/dev/a"\nper_day = -1\n', "use 0"),
        ('[sms]\ndevice = "/dev/a"\nprofile = "SIM9"\n', "SIMCOM_SIM800, SIMCOM_SIM7000"),
        ('[sms]\ndevice = "/dev/a"\nimei = "12"\n', "14 to 16 digits"),
        ('[sms]\ndevice = "/dev/a"\ncredit = { ussd = "ask me" }\n', "a code such as"),
        ('[sms]\ndevice = "/dev/a"\ncalls = "maybe"\n', "calls"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(text: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        sms(text)


class Named:
    def __init__(self, modem: object) -> None:
        self.config = modem
        self.name = getattr(modem, "name", "")


@pytest.mark.parametrize(
    ("number", "home", "first"),
    [
        ("+34600", "", "home"),
        ("+447009", "", "abroad"),
        ("447009", "", "abroad"),
        ("+49171", "", "abroad"),
        ("+447009", "home", "home"),
        ("+34600", "abroad", "abroad"),
        ("+34600", "a modem that was taken away", "home"),
    ],
)
def test_which_modem_a_text_goes_by(number: str, home: str, first: str) -> None:
    order = in_order([Named(modem) for modem in sms(SEVERAL).modems], number, home)  # type: ignore[type-var]
    assert order[0].name == first
    assert len(order) == 2


def test_the_doctor_names_each_modem(tmp_path: Path) -> None:
    found = list(check_modem(config(f'[node]\ndata_dir = "{tmp_path}"\n{SEVERAL}')))
    assert [(finding.check, finding.verdict) for finding in found] == [("home", "fail"), ("abroad", "fail")]
    assert "/dev/none1" in found[1].found


def test_the_example_in_the_documentation_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("## The modems\n")[2].partition("\n## ")[0]
    example = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    home, abroad = sms(textwrap.dedent(example)).modems
    assert (home.per_day, abroad.prefixes, bool(home.credit)) == (500, ("+44",), True)
