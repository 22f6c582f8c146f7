"""Public alerts on a real nats-server and a simulated modem: who gets which text, in which order, once."""

from pathlib import Path

import msgspec
import pytest

from subjects.bulletin import Reference
from tests.bench.bulletins import FLASH, alert, scene

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.timeout(120)]

ANA, LUZ, FAR, NONE, HURT = (f"+155510000{n}" for n in range(1, 6))


async def test_people_get_what_they_asked_for_worst_first_and_flash_between(tmp_path: Path) -> None:
    async with scene(tmp_path / "node", share=1.0) as town:
        await town.text(ANA, "ALERTS Lakeside")
        await town.text(LUZ, "LANG es")
        await town.text(FAR, "ALERTS Los Angeles")
        await town.text(NONE, "INFO")
        await town.read([ANA, LUZ, FAR, NONE])
        await town.text(LUZ, "alertas")
        await town.read([LUZ], 2)

        flood = alert("flood")
        await town.slow(0.4)
        for bulletin in (alert("tornado-same"), alert("power-outage"), flood):
            await town.alert(bulletin)
        await town.text(HURT, FLASH)
        await town.read([ANA], 2)
        town.kill()  # with texts under way and others to come: nobody gets one twice
        await town.read([HURT])
        texts = await town.read([ANA], 4) | await town.read([LUZ], 5)
        assert [text.partition(":")[0] for text in texts[ANA][1:]] == ["EXTREME DANGER", "DANGER", "WARNING"]
        assert [text.partition(":")[0] for text in texts[LUZ][2:]] == ["PELIGRO EXTREMO", "PELIGRO", "AVISO"]

        # Nobody waits long behind alerts: the emergency's reply left before the last of them.
        log = await town.entries()
        submitted = [entry.number for entry in log if entry.what == "submitted"]
        assert submitted.index(HURT) < max(at for at, number in enumerate(submitted) if number in {ANA, LUZ})

        # STOP ends them; the cancel goes to who got the alert and still wants to hear.
        await town.text(ANA, "STOP")
        await town.read([ANA], 5)
        cancel = msgspec.structs.replace(
            alert("flood-cancel", sent_at=flood.sent_at + 60),
            references=(Reference(flood.sender, flood.identifier, flood.sent_at),),
        )
        await town.alert(cancel)
        await town.alert(flood)  # again, as a feed may say it
        texts = await town.read([LUZ], 6)
        assert texts[LUZ][-1] == "CANCELADO: inundacion, Alpine, CA. De: NWS Sacramento CA."
        texts = await town.read([FAR, NONE, ANA])
        assert [len(texts[number]) for number in (FAR, NONE, ANA)] == [1, 1, 5]
