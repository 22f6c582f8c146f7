"""The air as a picture (SVG): where radios stand, who hears whom how well, what was sent, heard and lost, and
the routes that nodes have told.

Colours are those of Okabe and Ito, which people with any kind of colour blindness can tell apart; every
difference is also one of width, dashes or words.
"""

import math
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree.ElementTree import (
    Element,
    SubElement,
    indent,
    tostring,
)

if TYPE_CHECKING:
    from simulators.radio.air import Air, Count

BLUE, SKY, GREY, ORANGE, VERMILLION, INK = "#0072B2", "#56B4E9", "#8A8A8A", "#E69F00", "#D55E00", "#1B1B1B"
MAP_WIDTH, MAP_HEIGHT, MARGIN, TABLE_WIDTH = 760, 640, 70, 460
TOP: Final = 64
ROW: Final = 20
MANY, CROWD = 16, 60
"""From so many radios on, links have no words; from so many, radios have none (hovering shows them)."""
MOST_ROWS: Final = 36
QUALITIES: Final = (
    (10.0, BLUE, 3.0, "", "10 dB or more to spare"),
    (3.0, SKY, 2.2, "", "3 to 10 dB to spare"),
    (0.0, GREY, 1.4, "5 4", "less than 3 dB to spare"),
)
"""From how many dB above the weakest that is heard, with colour, width, dashes and words."""


class _View(NamedTuple):
    """From metres to the picture; ``scale`` is how large radios and lines are drawn."""

    left_m: float
    top_m: float
    per_m: float
    scale: float

    def at(self, place: tuple[float, float]) -> tuple[float, float]:
        """Where a place is drawn; north is up."""
        return (
            MARGIN + (place[0] - self.left_m) * self.per_m,
            TOP + MARGIN + (self.top_m - place[1]) * self.per_m,
        )


def draw(air: "Air") -> str:
    """The picture as text."""
    count = len(air.modules)
    height = max(TOP + MAP_HEIGHT + 40, TOP + (min(count, MOST_ROWS) + 14) * ROW)
    width = MAP_WIDTH + TABLE_WIDTH
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "font-family": "system-ui, 'DejaVu Sans', sans-serif",
            "font-size": "13",
            "fill": INK,
            "role": "img",
        },
    )
    SubElement(root, "title").text = f"{count} radios: topology, routes and deliveries"
    _markers(root)
    SubElement(root, "rect", {"width": str(width), "height": str(height), "fill": "#FFFFFF"})
    _headline(root, air)
    view = _view(air)
    _obstacles(root, air, view)
    _links(root, air, view)
    _routes(root, air, view)
    _radios(root, air, view)
    _scale(root, view)
    below = _table(root, air)
    _legend(root, below)
    indent(root, " ")
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(parent: Element, x: float, y: float, words: str, **more: str) -> Element:
    attributes = {name.replace("_", "-"): value for name, value in more.items()}
    made = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **attributes})
    made.text = words
    return made


def _markers(root: Element) -> None:
    defs = SubElement(root, "defs")
    for name, colour in (("route", ORANGE), ("one-way", GREY)):
        marker = SubElement(
            defs,
            "marker",
            {
                "id": name,
                "viewBox": "0 0 8 8",
                "refX": "7",
                "refY": "4",
                "markerWidth": "9",
                "markerHeight": "9",
                "markerUnits": "userSpaceOnUse",
                "orient": "auto",
            },
        )
        SubElement(marker, "path", {"d": "M0 0 L8 4 L0 8 Z", "fill": colour})


def _headline(root: Element, air: "Air") -> None:
    channel = air.ground.channel
    frames = sum(count.frames for count in air.counts)
    heard = sum(count.heard for count in air.counts)
    broken = sum(count.collided for count in air.counts)
    missed = sum(count.busy + count.lost for count in air.counts)
    against = sum(count.violations for count in air.counts)
    _text(
        root,
        24,
        30,
        f"{len(air.modules)} radios, {channel.frequency_hz / 1e6:.3f} MHz, SF{channel.spreading_factor} at "
        f"{channel.bandwidth_hz // 1000} kHz, {channel.region}",
        font_size="19",
        font_weight="600",
    )
    law = f"{against} frames against the law" if against else "all within the law"
    _text(
        root,
        24,
        52,
        f"{air.now_us / 1e6:,.0f} s: {frames:,} frames sent, {heard:,} times heard, {broken:,} times lost in "
        f"a collision, {missed:,} times missed otherwise; {law}",
        fill=VERMILLION if against else "#555555",
    )


def _view(air: "Air") -> _View:
    """All of it, in the middle."""
    places = [air.place(module.number) for module in air.modules]
    places += [end for wall in air.ground.obstacle for end in (wall.begin_m, wall.end_m)]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    across = max(max(xs) - min(xs), 1.0)
    along = max(max(ys) - min(ys), 1.0)
    per_m = min((MAP_WIDTH - 2 * MARGIN) / across, (MAP_HEIGHT - 2 * MARGIN) / along)
    return _View(
        min(xs) - ((MAP_WIDTH - 2 * MARGIN) / per_m - across) / 2,
        max(ys) + ((MAP_HEIGHT - 2 * MARGIN) / per_m - along) / 2,
        per_m,
        max(0.3, min(1.0, math.sqrt(MANY / len(air.modules)))),
    )


def _obstacles(root: Element, air: "Air", view: _View) -> None:
    group = SubElement(root, "g", {"class": "obstacles"})
    for wall in air.ground.obstacle:
        (x1, y1), (x2, y2) = view.at(wall.begin_m), view.at(wall.end_m)
        line = _line(group, (x1, y1), (x2, y2), "#6B5B4B", 7.0)
        line.set("stroke-linecap", "round")
        line.set("stroke-opacity", "0.55")
        words = f"{wall.name or 'obstacle'}, {wall.loss_db:g} dB"
        SubElement(line, "title").text = words
        _text(group, x2 + 6, y2, words, fill="#6B5B4B", font_size="11", font_style="italic")


def _line(
    parent: Element, begin: tuple[float, float], end: tuple[float, float], colour: str, width: float
) -> Element:
    return SubElement(
        parent,
        "line",
        {
            "x1": f"{begin[0]:.1f}",
            "y1": f"{begin[1]:.1f}",
            "x2": f"{end[0]:.1f}",
            "y2": f"{end[1]:.1f}",
            "stroke": colour,
            "stroke-width": f"{width:.1f}",
        },
    )


def _quality(margin_db: float) -> tuple[str, float, str]:
    for at_least_db, colour, width, dashes, _ in QUALITIES:
        if margin_db >= at_least_db:
            return colour, width, dashes
    return GREY, 1.0, "1 4"


def _links(root: Element, air: "Air", view: _View) -> None:
    group = SubElement(root, "g", {"class": "links"})
    channel = air.ground.channel
    floor_dbm = air.channel.sensitivity_dbm(channel.spreading_factor, channel.bandwidth_hz)
    for one in range(len(air.modules)):
        for other in range(one + 1, len(air.modules)):
            pair = (one, other)
            there, back = (
                air.channel.rssi_dbm(sender, receiver) - floor_dbm for sender, receiver in (pair, pair[::-1])
            )
            if max(there, back) < 0 or not all(air.modules[number].alive for number in pair):
                continue
            begin, end = view.at(air.place(one)), view.at(air.place(other))
            if there < 0:
                begin, end = end, begin
            one_way = min(there, back) < 0
            colour, width, dashes = _quality(max(there, back) if one_way else min(there, back))
            tip = _before(begin, end, 17.0 * view.scale) if one_way else end
            line = _line(group, begin, tip, colour, width * view.scale)
            if dashes:
                line.set("stroke-dasharray", dashes)
            if one_way and len(air.modules) < CROWD:
                line.set("marker-end", "url(#one-way)")
            names = air.modules[one].name, air.modules[other].name
            SubElement(line, "title").text = (
                f"{names[0]} → {names[1]}: {there:+.0f} dB to spare, {_delivered(air, one, other)}\n"
                f"{names[1]} → {names[0]}: {back:+.0f} dB to spare, {_delivered(air, other, one)}"
            )
            if len(air.modules) < MANY:
                _text(
                    group,
                    (begin[0] + end[0]) / 2,
                    (begin[1] + end[1]) / 2 - 4,
                    f"{max(there, back) if one_way else min(there, back):+.0f} dB",
                    fill="#444444",
                    font_size="10",
                    text_anchor="middle",
                    stroke="#FFFFFF",
                    stroke_width="3",
                    paint_order="stroke",
                )


def _delivered(air: "Air", sender: int, receiver: int) -> str:
    hearing = air.hearings.get((sender, receiver))
    if hearing is None:
        return "nothing sent"
    return f"{hearing.frames} of {hearing.frames + hearing.broken} frames heard"


def _before(begin: tuple[float, float], end: tuple[float, float], gap: float) -> tuple[float, float]:
    """The point ``gap`` before the end of a line."""
    length = math.dist(begin, end) or 1.0
    share = max(0.0, 1 - gap / length)
    return begin[0] + (end[0] - begin[0]) * share, begin[1] + (end[1] - begin[1]) * share


def _routes(root: Element, air: "Air", view: _View) -> None:
    group = SubElement(root, "g", {"class": "routes"})
    for name, via in air.routes.items():
        hops: dict[str, list[str]] = {}
        for destination, hop in via.items():
            hops.setdefault(hop, []).append(destination)
        for hop, destinations in hops.items():
            begin, end = view.at(air.place(air.named(name))), view.at(air.place(air.named(hop)))
            length = math.dist(begin, end) or 1.0
            # To the right of the straight line, so that there and back are two curves.
            bend = min(26.0, length / 5)
            middle = (
                (begin[0] + end[0]) / 2 - (end[1] - begin[1]) / length * bend,
                (begin[1] + end[1]) / 2 + (end[0] - begin[0]) / length * bend,
            )
            gap = 15.0 * view.scale
            start, stop = _before(middle, begin, gap), _before(middle, end, gap)
            curve = SubElement(
                group,
                "path",
                {
                    "d": f"M{start[0]:.1f} {start[1]:.1f} Q{middle[0]:.1f} {middle[1]:.1f} "
                    f"{stop[0]:.1f} {stop[1]:.1f}",
                    "fill": "none",
                    "stroke": ORANGE,
                    "stroke-width": "2.2",
                    "marker-end": "url(#route)",
                },
            )
            SubElement(curve, "title").text = f"{name} hands to {hop} what goes to {', '.join(destinations)}"


def _radios(root: Element, air: "Air", view: _View) -> None:
    group = SubElement(root, "g", {"class": "radios"})
    for module, count in zip(air.modules, air.counts, strict=True):
        x, y = view.at(air.place(module.number))
        alive = module.alive
        node = SubElement(group, "g", {"class": "radio", "data-name": module.name})
        SubElement(
            node,
            "circle",
            {
                "cx": f"{x:.1f}",
                "cy": f"{y:.1f}",
                "r": f"{11 * view.scale:.1f}",
                "fill": "#FFFFFF" if not alive else INK,
                "stroke": VERMILLION if count.violations else INK,
                "stroke-width": f"{(4 if count.violations else 2) * view.scale:.1f}",
            },
        )
        if not alive:
            arm = 6 * view.scale
            for turn in (-arm, arm):
                _line(node, (x - arm, y - turn), (x + arm, y + turn), INK, 2.0 * view.scale)
        state = "" if alive else " (dead)"
        SubElement(node, "title").text = f"{module.name}{state}: {_summary(count)}"
        halo = {"stroke": "#FFFFFF", "stroke_width": "4", "paint_order": "stroke", "text_anchor": "middle"}
        if len(air.modules) < CROWD:
            size = f"{max(9, 13 * view.scale):.0f}"
            above = y - 18 * view.scale
            _text(node, x, above, module.name + state, font_weight="600", font_size=size, **halo)
        if count.frames and len(air.modules) < MANY:
            words = f"{count.frames} sent, {count.airtime_us / 1e6:.1f} s"
            _text(node, x, y + 27, words, font_size="11", fill="#444444", **halo)


def _summary(count: "Count") -> str:
    law = f", {count.violations} against the law" if count.violations else ""
    return (
        f"{count.frames} frames sent in {count.airtime_us / 1e6:.1f} s on air, {count.heard} heard, "
        f"{count.collided} lost in collisions, {count.busy} missed while sending, {count.lost} lost{law}"
    )


def _scale(root: Element, view: _View) -> None:
    rough_m = 150 / view.per_m
    unit_m = 10 ** math.floor(math.log10(rough_m))
    metres = max(step * unit_m for step in (1, 2, 5) if step * unit_m <= rough_m)
    y = TOP + MAP_HEIGHT + 12
    group = SubElement(root, "g", {"class": "scale"})
    _line(group, (24, y), (24 + metres * view.per_m, y), INK, 3.0)
    words = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    _text(group, 24, y + 18, words, font_size="11")


def _table(root: Element, air: "Air") -> float:
    """The numbers beside the map; gives where the next thing may begin."""
    group = SubElement(root, "g", {"class": "table", "font-size": "12"})
    columns = ("radio", "sent", "on air s", "heard", "collided", "missed", "law")
    rights = (0, 120, 185, 235, 300, 355, 400)
    y = TOP + 26.0
    for name, right in zip(columns, rights, strict=True):
        anchor = "end" if right else "start"
        _text(group, MAP_WIDTH + right, y, name, font_weight="600", text_anchor=anchor)
    rows = sorted(zip(air.modules, air.counts, strict=True), key=lambda row: -row[1].airtime_us)
    if len(rows) <= MOST_ROWS:
        rows.sort(key=lambda row: row[0].number)
    for module, count in rows[:MOST_ROWS]:
        y += ROW
        cells = (
            module.name if module.alive else f"{module.name} (dead)",
            f"{count.frames:,}",
            f"{count.airtime_us / 1e6:,.1f}",
            f"{count.heard:,}",
            f"{count.collided:,}",
            f"{count.busy + count.lost:,}",
            f"✗ {count.violations}" if count.violations else "✓",
        )
        for cell, right in zip(cells, rights, strict=True):
            anchor = "end" if right else "start"
            colour = VERMILLION if cell.startswith("✗") else INK
            _text(group, MAP_WIDTH + right, y, cell, text_anchor=anchor, fill=colour)
    if len(rows) > MOST_ROWS:
        y += ROW
        _text(group, MAP_WIDTH, y, f"… and {len(rows) - MOST_ROWS} that were on air less", fill="#555555")
    return y + 2 * ROW


def _legend(root: Element, y: float) -> None:
    group = SubElement(root, "g", {"class": "legend", "font-size": "12"})
    x = float(MAP_WIDTH)
    for _, colour, width, dashes, words in QUALITIES:
        line = _line(group, (x, y - 4), (x + 40, y - 4), colour, width)
        if dashes:
            line.set("stroke-dasharray", dashes)
        _text(group, x + 52, y, f"both hear each other, {words}")
        y += ROW
    line = _line(group, (x, y - 4), (x + 38, y - 4), GREY, 1.4)
    line.set("marker-end", "url(#one-way)")
    _text(group, x + 52, y, "only one hears the other")
    y += ROW
    path = {"d": f"M{x} {y - 1} Q{x + 20} {y - 12} {x + 38} {y - 3}", "fill": "none", "stroke": ORANGE}
    SubElement(group, "path", path | {"stroke-width": "2.2", "marker-end": "url(#route)"})
    _text(group, x + 52, y, "a route: frames are handed on this way")
    y += ROW
    circle = {"cx": f"{x + 20}", "cy": f"{y - 4}", "r": "7", "fill": INK, "stroke": VERMILLION}
    SubElement(group, "circle", circle | {"stroke-width": "3.5"})
    _text(group, x + 52, y, "sent against the law: too long, too loud, or elsewhere")
    y += ROW
    _text(
        group,
        x,
        y,
        "missed: was sending itself, or lost by order. Hover for more.",
        fill="#555555",
    )
