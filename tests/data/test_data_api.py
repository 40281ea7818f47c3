"""Importing the package costs nothing that its names do not need."""

from tests.processes import printed

from cifarnet.data.cifar10 import CIFAR10, SOURCES


def test_importing_loads_no_pillow_no_http_and_no_framework():
    code = "import sys, cifarnet.data; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = ["PIL", "ssl", "http.client", "urllib.request", "filelock", "keras", "jax", "torch", "tensorflow", "typer"]
    assert printed("-c", code, *heavy) == "[]\n"


def test_the_official_source_comes_first_and_cifar10_has_six_files_of_30730000_bytes():
    assert [source.address.partition(":")[0] for source in SOURCES] == ["https", "npm"]
    assert [*CIFAR10.files] == [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    assert CIFAR10.file_bytes == 30_730_000
    assert all(len(sha256) == 64 for sha256 in CIFAR10.files.values())
