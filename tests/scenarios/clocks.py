"""One process's wall clock, an hour ahead or behind, while the machine's stays right.

Time namespaces do not cover CLOCK_REALTIME, and libfaketime cannot reach a static Go program. What every
program asks for the time is the vDSO, code that the kernel maps into each process and lets a debugger write
to (vdso(7)); so :func:`set_clock` leads its functions to code that adds an offset. It works on a running
process: that is a clock jump. ``python -m tests.scenarios.clocks 3600 PROGRAM …`` starts one with it, in
the same process. A program that this one executes has a vDSO of its own, and the right time. x86_64 only.

The monotonic and boot clocks are not touched, as in a real jump. Not moved either: what the kernel itself
stamps, such as a file's times, and timers that are set on the wall clock.
"""

import contextlib
import ctypes
import mmap
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

FUNCTIONS: Final = ("__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time")
JUMP_OCTETS: Final = 5
MARK: Final = b"evyclock"

_PTRACE_CONT, _PTRACE_DETACH, _PTRACE_SEIZE = 7, 17, 0x4206
_O_TRACEEXEC: Final = 1 << 4
_EXEC_STOP: Final = signal.SIGTRAP | 4 << 8
_WALL: Final = 0x40000000


def why_not() -> str:
    """Why clocks of processes cannot be moved here; empty when they can."""
    if platform.machine() != "x86_64":
        return f"the clock of a process can be moved on x86_64 only, this is {platform.machine()}"
    return "" if os.geteuid() == 0 else "moving the clock of a process needs root"


def _stubs(offset_at: int, start: int) -> tuple[bytes, list[int]]:
    """Code of the three functions by system call plus the offset, and where each begins.

    System V calling convention; a system call spoils only rax, rcx and r11, which belong to the callee.
    """
    code, starts = b"", []

    def emit(*parts: bytes | None) -> None:
        nonlocal code
        starts.append(start + len(code))
        for part in parts:
            if part is None:  # mov r11, [rip + distance to the offset]
                here = start + len(code) + 7
                code += b"\x4c\x8b\x1d" + struct.pack("<i", offset_at - here)
            else:
                code += part

    emit(
        b"\xb8\xe4\x00\x00\x00\x0f\x05",  # mov eax, 228 (clock_gettime); syscall
        b"\x85\xc0\x75\x14",  # test eax, eax; jnz ret
        b"\x85\xff\x74\x05",  # test edi, edi; jz add      CLOCK_REALTIME
        b"\x83\xff\x05\x75\x0b",  # cmp edi, 5; jnz ret    CLOCK_REALTIME_COARSE
        None,
        b"\x4c\x01\x1e",  # add [rsi], r11
        b"\x90\xc3",  # nop; ret
    )
    emit(
        b"\xb8\x60\x00\x00\x00\x0f\x05",  # mov eax, 96 (gettimeofday); syscall
        b"\x48\x85\xff\x74\x0a",  # test rdi, rdi; jz ret
        None,
        b"\x4c\x01\x1f",  # add [rdi], r11
        b"\xc3",
    )
    emit(
        b"\x57\x31\xff",  # push rdi; xor edi, edi
        b"\xb8\xc9\x00\x00\x00\x0f\x05\x5f",  # mov eax, 201 (time); syscall; pop rdi
        None,
        b"\x4c\x01\xd8",  # add rax, r11
        b"\x48\x85\xff\x74\x03",  # test rdi, rdi; jz ret
        b"\x48\x89\x07",  # mov [rdi], rax
        b"\xc3",
    )
    return code, starts


def _symbols(image: bytes) -> dict[str, int]:
    """Offsets of the vDSO's functions in its image (elf(5): section headers, SHT_DYNSYM, its strings)."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + n * size) for n in range(count)]
    found = {}
    for section in sections:
        if section[1] != 11:  # SHT_DYNSYM
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
            end = image.index(b"\0", strings + name)
            found[image[strings + name : end].decode()] = value
    return found


def _vdso(pid: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, _, end = line.split()[0].partition("-")
            return int(start, 16), int(end, 16)
    raise OSError(f"process {pid} has no vDSO")


def set_clock(pid: int, ahead_s: int) -> None:
    """Makes the wall clock of a process ``ahead_s`` seconds ahead of the machine's; negative is behind.

    Raises OSError when the process is gone, or its vDSO has no room or none of the known functions.
    """
    if reason := why_not():
        raise OSError(reason)
    start, end = _vdso(pid)
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        image = memory.read(end - start)
        offset = struct.pack("<q", ahead_s)
        if (marked := image.find(MARK)) >= 0:  # done before: one aligned write moves it
            memory.seek(start + marked + len(MARK))
            memory.write(offset)
            return
        room = (len(image.rstrip(b"\0")) + 31) // 16 * 16
        offset_at = room + len(MARK)
        code, starts = _stubs(offset_at, offset_at + 8)
        symbols = _symbols(image)
        if offset_at + 8 + len(code) > len(image) or not set(FUNCTIONS) <= symbols.keys():
            raise OSError(f"process {pid}: no room or no clock in its vDSO")
        entries = [symbols[name] for name in FUNCTIONS]
        memory.seek(start + room)
        memory.write(MARK + offset + code)
        with _held(pid, [start + entry for entry in entries]):
            for entry, stub in zip(entries, starts, strict=True):
                memory.seek(start + entry)
                memory.write(b"\xe9" + struct.pack("<i", stub - entry - JUMP_OCTETS))


@contextlib.contextmanager
def _held(pid: int, entries: Sequence[int]) -> Iterator[None]:
    """Stops a process where no thread is inside of the octets that a jump replaces."""
    if "t (tracing stop)" in Path(f"/proc/{pid}/status").read_text():  # by ourselves, after its exec
        yield
        return
    while True:
        os.kill(pid, signal.SIGSTOP)
        try:
            if not any(_between(place, entries) for place in _places(pid)):
                yield
                return
        finally:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)


def _between(place: int, entries: Sequence[int]) -> bool:
    return any(entry < place < entry + JUMP_OCTETS for entry in entries)


def _places(pid: int) -> list[int]:
    """Instruction pointers of all threads, once all have stopped (proc_pid_syscall(5): the last field)."""
    while True:
        tasks = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/syscall")]
        if all(fields != ["running"] for fields in tasks):
            return [int(fields[-1], 16) for fields in tasks]
        time.sleep(0.001)


def _ptrace(libc: ctypes.CDLL, request: int, pid: int, data: int = 0) -> None:
    arguments = (ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), ctypes.c_void_p(data))
    if libc.ptrace(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def start_with(ahead_s: int, command: Sequence[str]) -> None:
    """Becomes ``command`` with its clock off from the first instruction on; does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    program, ready = os.getpid(), mmap.mmap(-1, 1)
    if (helper := os.fork()) == 0:
        if os.fork():
            os._exit(0)
        try:  # the grandchild: nobody's, so that the program has no child it does not know
            _ptrace(libc, _PTRACE_SEIZE, program, _O_TRACEEXEC)
            ready[0] = 1
            while (status := os.waitpid(program, _WALL)[1]) >> 8 != _EXEC_STOP:
                _ptrace(libc, _PTRACE_CONT, program, os.WSTOPSIG(status))  # a signal, such as its SIGCHLD
            set_clock(program, ahead_s)
            _ptrace(libc, _PTRACE_DETACH, program)
        finally:
            ready[0] = 1
            os._exit(0)
    os.waitpid(helper, 0)
    while not ready[0]:
        time.sleep(0.001)
    os.execvp(command[0], list(command))  # noqa: S606  to become it is the purpose


if __name__ == "__main__":
    start_with(int(sys.argv[1]), sys.argv[2:])
