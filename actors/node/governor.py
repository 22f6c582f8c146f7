"""The processor's governor, by battery, heat and load: off unless ``[power] governor`` is set."""

import subprocess
from pathlib import Path
from typing import Final, Literal

from evy_core import Router

from actors.node.gauge import PowerConfig
from subjects.node_state import NodeState

Name = Literal["powersave", "ondemand", "performance"]

BUSY_PERCENT: Final = 60.0
COMMAND_WITHIN_S: Final = 10.0
CPUS: Final = "devices/system/cpu"
"""Beneath /sys; kernel's Documentation/admin-guide/pm/cpufreq."""
SUBSTITUTES: Final[dict[Name, str]] = {"ondemand": "schedutil"}
"""What newer kernels call a governor that they do not have."""


def choose(state: NodeState, router: Router) -> Name:
    """The governor for a state: slow where the battery is too low for a model, or board or supply suffer;
    fast for load, where the battery has enough for everything. Unknown is what a kernel does by itself."""
    battery = state.battery_rule_percent
    if state.throttled or state.under_voltage or router.model_obstacle(battery_percent=battery):
        return "powersave"
    enough = battery is None or battery >= router.battery_limits[0][-1]
    if enough and state.cpu_percent is not None and state.cpu_percent >= BUSY_PERCENT:
        return "performance"
    return "ondemand"


class Governor:
    """Sets what was chosen, when it changes."""

    def __init__(self, config: PowerConfig, router: Router) -> None:
        self._on = config.governor
        self._command = config.governor_command
        self._cpus = Path(config.sys) / CPUS
        self._router = router
        self._set: Name | None = None

    def apply(self, state: NodeState) -> str:
        """Sets the governor that the state asks for; gives what was done or why not, "" for nothing."""
        if not self._on:
            return ""
        wanted = choose(state, self._router)
        if wanted == self._set:
            return ""
        self._set = wanted  # also when it fails: the reason is said once for each change
        try:
            if self._command:
                command = [*self._command, wanted]
                subprocess.run(command, check=True, timeout=COMMAND_WITHIN_S, capture_output=True)
            else:
                self._write(wanted)
        except (OSError, subprocess.SubprocessError) as error:
            return f"governor {wanted} not set: {error}"
        return f"governor {wanted}"

    def _write(self, wanted: Name) -> None:
        files = sorted(self._cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))
        if not files:
            raise FileNotFoundError(f"no governor beneath {self._cpus}")
        for file in files:
            there = file.with_name("scaling_available_governors").read_text(encoding="ascii").split()
            name = wanted if wanted in there else SUBSTITUTES.get(wanted, wanted)
            file.write_text(name, encoding="ascii")
