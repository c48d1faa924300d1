"""Runs a PTX kernel thread by thread: the few instructions of rigup's own kernel, as the PTX ISA
describes them, and nothing else. It shows what a kernel computes where there is no GPU."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

INSTRUCTION = re.compile(r"(?:@(?P<guard>%\w+)\s+)?(?P<name>[\w.]+)\s*(?P<operands>[^;]*);")
STATEMENT = re.compile(r"(?P<label>\w+):|(?P<instruction>(?:@%\w+\s+)?[a-z][\w.]*[^;{}:]*;)")
MOST_STEPS = 100_000


def body_of(text: str) -> tuple[list[re.Match[str]], dict[str, int]]:
    """The kernel's instructions, and at which of them its labels stand."""
    code = re.sub(r"//.*", "", text)
    code = re.sub(r"\.reg[^;]*;", "", code[code.index("{") + 1 : code.rindex("}")])
    instructions: list[re.Match[str]] = []
    labels: dict[str, int] = {}
    for statement in STATEMENT.finditer(code):
        if statement["label"]:
            labels[statement["label"]] = len(instructions)
            continue
        found = INSTRUCTION.fullmatch(statement["instruction"])
        assert found is not None, statement[0]
        instructions.append(found)
    return instructions, labels


class Thread:
    """``memory`` is the device's; ``given`` are parameters and special registers by name."""

    def __init__(self, memory: bytearray, given: Mapping[str, int]) -> None:
        self.memory = memory
        self.values: dict[str, Any] = dict(given)

    def run(self, instructions: Sequence[re.Match[str]], labels: Mapping[str, int]) -> None:
        at = 0
        for _ in range(MOST_STEPS):
            one = instructions[at]
            at += 1
            if one["guard"] is not None and not self.values[one["guard"]]:
                continue
            if one["name"] == "ret":
                return
            operands = [operand.strip() for operand in one["operands"].split(",")]
            if one["name"] == "bra":
                at = labels[operands[0]]
            else:
                self._do(one["name"], operands)
        raise AssertionError("the kernel does not end")

    def _do(self, name: str, operands: Sequence[str]) -> None:
        if name == "st.global.f32":
            struct.pack_into("<f", self.memory, self._read(operands[0]), self._read(operands[1]))
            return
        target, *sources = operands
        self.values[target] = self._result(name, [self._read(source) for source in sources])

    def _result(self, name: str, x: Sequence[Any]) -> Any:
        if name == "ld.global.f32":
            return struct.unpack_from("<f", self.memory, x[0])[0]
        results = {
            "ld.param.u64": lambda: x[0],
            "ld.param.u32": lambda: x[0],
            "cvta.to.global.u64": lambda: x[0],
            "mov.u32": lambda: x[0],
            "mov.f32": lambda: x[0],
            "add.u32": lambda: (x[0] + x[1]) % 2**32,
            "add.u64": lambda: (x[0] + x[1]) % 2**64,
            "mad.lo.u32": lambda: (x[0] * x[1] + x[2]) % 2**32,
            "mul.wide.u32": lambda: x[0] * x[1],
            "fma.rn.f32": lambda: x[0] * x[1] + x[2],
            "setp.ge.u32": lambda: x[0] >= x[1],
            "setp.lt.u32": lambda: x[0] < x[1],
        }
        return results[name]()

    def _read(self, operand: str) -> Any:
        name = operand.strip("[]")
        if name.startswith("0f"):
            return struct.unpack(">f", bytes.fromhex(name[2:]))[0]
        return int(name) if name.isdigit() else self.values[name]
