"""The picture of `evy report`: one page that a coordinator can hang up.

matplotlib, because it is kept well, writes both PNG and SVG and lays out text that is as long as it is. It is
an extra (60 MB on the disk): a node never draws, and `--json` has every figure of the picture.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actors.analytics.overview import NodeFigures, Overview, local_time

NODES: Final = 16
"""Nodes in a panel, those with most texts; the rest is counted."""
BARS: Final = 8
NEEDS: Final = 6
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"
"""From a palette that the colour-blind can tell apart (Okabe and Ito)."""
COLOURS: Final = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", GREY)


def picture_of(made: Overview) -> Figure:
    """Six panels on a page of A4, landscape."""
    figure = Figure(figsize=(11.7, 8.3), layout="constrained")
    title = f"EVY, {local_time(made.since)} to {local_time(made.until)}: {made.all.texts} texts"
    worst = "; ".join(made.attention[:3]) or "nothing needs a look"
    figure.suptitle(f"{title}\n{worst}", fontsize=11, color=ORANGE if made.attention else "black")
    axes: list[Axes] = list(figure.subplots(2, 3).flat)
    nodes = sorted(made.nodes, key=lambda one: (-one.figures.texts, one.node))
    _days(axes[0], made)
    _bars(axes[1], "how they were answered", made.all.steps)
    _bars(axes[2], "what EVY did not know", made.all.unanswered_topics)
    _needs(axes[3], nodes)
    _replies(axes[4], nodes)
    _shares(axes[5], nodes)
    return figure


def _days(axes: Axes, made: Overview) -> None:
    axes.set_title("texts a day")
    places = range(len(made.days))
    axes.bar(places, [day.texts for day in made.days], color=GREY, label="came in")
    axes.bar(places, [day.answered for day in made.days], width=0.5, color=BLUE, label="answered")
    step = max(1, len(made.days) // 7)
    axes.set_xticks(list(places)[::step], [day.date[5:] for day in made.days][::step])
    axes.legend(fontsize=8)


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    axes.set_title(title)
    shown = list(counts.items())[:BARS]
    if rest := sum(counts.values()) - sum(count for _, count in shown):
        shown.append(("others", rest))
    shown.reverse()
    axes.barh([name for name, _ in shown], [count for _, count in shown], color=BLUE)


def _shown(axes: Axes, title: str, nodes: list[NodeFigures]) -> list[NodeFigures]:
    more = f" ({len(nodes) - NODES} more nodes)" if len(nodes) > NODES else ""
    axes.set_title(title + more)
    return nodes[:NODES][::-1]


def _needs(axes: Axes, nodes: list[NodeFigures]) -> None:
    shown = _shown(axes, "needs by node", nodes)
    names = [one.node for one in shown]
    total: Counter[str] = Counter()
    for one in nodes:
        total.update(one.figures.needs)
    begun = [0] * len(shown)
    for (need, _), colour in zip(total.most_common(NEEDS), COLOURS, strict=False):
        counts = [one.figures.needs.get(need, 0) for one in shown]
        axes.barh(names, counts, left=begun, color=colour, label=need)
        begun = [left + count for left, count in zip(begun, counts, strict=True)]
    if total:
        axes.legend(fontsize=8)


def _replies(axes: Axes, nodes: list[NodeFigures]) -> None:
    shown = _shown(axes, "seconds until the reply was sent", nodes)
    names = [one.node for one in shown]
    axes.barh(names, [one.figures.replied.p95_s or 0 for one in shown], color=GREY, label="19 of 20 within")
    axes.barh(
        names, [one.figures.replied.p50_s or 0 for one in shown], height=0.4, color=BLUE, label="median"
    )
    axes.legend(fontsize=8)


def _shares(axes: Axes, nodes: list[NodeFigures]) -> None:
    shown = _shown(axes, "% battery (lowest), % delivered", nodes)
    for place, one in enumerate(shown):
        if one.battery_percent is not None:
            axes.barh(place + 0.2, one.battery_percent, height=0.35, color=ORANGE)
        if one.battery_lowest_percent is not None:
            axes.plot(one.battery_lowest_percent, place + 0.2, "k|")
        reports = one.figures.sms_delivered + one.figures.sms_undelivered
        if reports:
            axes.barh(place - 0.2, 100 * one.figures.sms_delivered / reports, height=0.35, color=BLUE)
    axes.set_yticks(range(len(shown)), [one.node for one in shown])
    axes.set_xlim(0, 100)
