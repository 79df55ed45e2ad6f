"""Memory and energy as the kernel's files tell them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from luthier.core.settings import Settings
from luthier.training import memory
from luthier.training.memory import LeftOver, peak_resident_bytes, resident_bytes
from luthier.worker.machine import EnergyMeter, available_memory, device_memory, matrix_speed


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def free(root: Path) -> int:
    """What is available beside what this process holds already."""
    return int(round(available_memory(Settings(), root=root) / 0.9 - resident_bytes(), -7))


def test_the_machine_says_what_is_free(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 5000000 kB\n")
    assert abs(free(tmp_path) - 5_120_000_000) < 50_000_000


def test_the_control_group_may_say_less(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemAvailable: 5000000 kB\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "3000000000\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", "2500000000\n")
    write(tmp_path, "sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 1500000000\n")
    assert abs(free(tmp_path) - 2_000_000_000) < 50_000_000
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert abs(free(tmp_path) - 5_120_000_000) < 50_000_000


def test_a_setting_says_it_for_itself_and_silence_refuses_nothing(tmp_path: Path) -> None:
    assert available_memory(Settings(train_memory_bytes=123), root=tmp_path) == 123
    assert available_memory(Settings(), root=tmp_path) > 1 << 50


def test_the_process_knows_its_own_memory() -> None:
    assert 10_000_000 < resident_bytes() <= peak_resident_bytes() * 1.05


def test_a_matrix_product_has_a_speed() -> None:
    assert matrix_speed(16, 64, 32, seconds=0.001) > 1e6


def test_energy_is_told_only_where_it_can_be_read(tmp_path: Path) -> None:
    meter = EnergyMeter(root=tmp_path)
    assert meter.start() is None
    assert meter.watts_since(None) is None
    counter = "sys/class/powercap/intel-rapl:0/energy_uj"
    write(tmp_path, counter, "1000000\n")
    write(tmp_path, "sys/class/powercap/intel-rapl:0:0/energy_uj", "900000\n")
    meter = EnergyMeter(root=tmp_path)
    mark = meter.start()
    assert mark is not None
    assert mark.joules == 1.0
    write(tmp_path, counter, "3000000\n")
    watts = meter.watts_since(mark)
    assert watts is not None
    assert watts > 0
    write(tmp_path, counter, "5\n")
    assert meter.watts_since(mark) is None


class FakeCuda:
    """``torch.cuda`` as far as it is asked for memory."""

    def get_device_properties(self, device: str) -> object:
        return SimpleNamespace(name="NVIDIA X", total_memory=80_000_000_000)

    def mem_get_info(self, device: str) -> tuple[int, int]:
        return 30_000_000_000, 80_000_000_000

    def memory_reserved(self, device: str) -> int:
        return 10_000_000_000


def test_a_gpu_says_what_is_free_and_what_this_process_holds() -> None:
    card = device_memory("cuda:1", FakeCuda())
    assert card.label == "cuda:1 (NVIDIA X)"
    assert (card.total_bytes, card.free_bytes, card.held_bytes) == (80_000_000_000, 30_000_000_000, 10_000_000_000)
    # 95 % of 40 GB, less 0.6 of CUDA itself.
    assert card.available_bytes == 37_400_000_000
    assert replace(card, free_bytes=0, held_bytes=0).available_bytes == 0


def test_what_is_free_within_the_heap_is_given_back_the_more_seldom_the_more_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, resident, given = [0.0], [900_000_000], [0]

    def trim(_pad: object) -> int:
        given[0] += 1
        resident[0] = 500_000_000
        return 1

    monkeypatch.setattr(memory, "_of_libc", lambda name: trim if name == "malloc_trim" else None)
    monkeypatch.setattr(memory, "resident_bytes", lambda: resident[0])
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    left_over = LeftOver()
    seen = []
    for second in range(32):
        clock[0] = float(second)
        left_over.give_back()
        seen.append(given[0])
    # 400 MB at 5 s: not again for 20 s; then nothing was left to give, and it looks again after 5.
    assert [seen.index(n) for n in (1, 2, 3)] == [5, 25, 30]
    monkeypatch.setattr(memory, "_of_libc", lambda _name: None)
    clock[0] = 100.0
    LeftOver().give_back()
    assert given[0] == 3
