"""Facts about the machine, as Linux reports them for several kinds of processors."""

import platform

import pytest

from cifarnet import system as environment
from cifarnet.system import multiplies_bfloat16, processor

X86 = """processor\t: 0
model name\t: AMD EPYC 9004
flags\t\t: fpu avx2 avx512f {}

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU part\t: 0xd49\n"


@pytest.fixture
def write_cpuinfo(tmp_path, monkeypatch):
    """Replace what the kernel says of the processor."""

    def write(text):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format("avx512_bf16"), True),
        (X86.format("amx_bf16 amx_tile"), True),
        (X86.format("avx512_vnni"), False),
        (ARM.format("bf16 i8mm"), True),
        (ARM.format("svebf16x"), False),
        ("", False),
    ],
)
def test_a_processor_multiplies_bfloat16_if_it_says_so(write_cpuinfo, text, expected):
    write_cpuinfo(text)
    assert multiplies_bfloat16() == expected


def test_the_processor_is_named_by_the_kernel_or_else_by_python(write_cpuinfo, tmp_path, monkeypatch):
    write_cpuinfo(X86)
    assert processor() == "AMD EPYC 9004"
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "nothing")
    assert processor() in (platform.processor(), platform.machine())
    assert not multiplies_bfloat16()
