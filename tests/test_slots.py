"""The file that the workers of a service count in: who counts where, what each shows, and what a death leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pairec_fast import slots
from pairec_fast.core.meter import SLOT_BYTES
from pairec_fast.metrics import Metrics, series
from pairec_fast.slots import ENVIRONMENT, SlotFile, created, place
from tests.test_metrics import parsed
from tests.worlds import environment

COUNTING = """
import sys, time
from pairec_fast.metrics import Metrics
from pairec_fast.slots import place

metrics = Metrics("", place())
histogram, offered, taken = metrics.histogram("t_seconds"), *map(metrics.counter, ("offered_total", "taken_total"))
group = metrics.group(offered, taken)
metrics.publish({"items_live": 5, "age_seconds": 1, "pushed_total": 10})
print(metrics.place.index, flush=True)
for _ in range(int(sys.argv[1])) if sys.argv[1] != "on" else iter(int, 1):
    group.add(1, 1)
    histogram.observe(0.001)
    if sys.argv[1] == "on":
        time.sleep(0)
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Files of slots go there, as on a machine of one's own."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(slots, "FOLDERS", (str(tmp_path / "shm"),))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return tmp_path / "shm"


class Worker:
    """A process that takes a slot and counts `times`, or "on" and on."""

    def __init__(self, times: int | str) -> None:
        line = [sys.executable, "-c", COUNTING, str(times)]
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )  # fmt: skip
        self.index = int(self.process.stdout.readline())
        if times != "on":
            assert self.process.stdout.readline() == "counted\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


def test_a_file_is_for_its_owner_alone_and_gone_in_the_end(folder):
    with created(2) as path:
        assert path.parent == folder and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.environ[ENVIRONMENT] == str(path) and path.stat().st_blocks * 512 >= path.stat().st_size
        assert len(SlotFile(path).slots) == 4
    assert not list(folder.iterdir()) and ENVIRONMENT not in os.environ


def test_each_takes_a_slot_of_its_own_until_all_are_held(caplog):
    with created(2):
        places = [place() for _ in range(4)]
        assert [one.index for one in places] == [0, 1, 2, 3] and all(one.shared for one in places)
        alone = place()
        assert not alone.shared and "all slots" in caplog.text
        Metrics("", alone).count("n_total")
        assert Metrics("", places[0]).text() == ""
        places[2].release()
        assert place().index == 2


def test_any_worker_shows_what_all_have_counted():
    with created(3), Worker(100), Worker(20) as other:
        here = Metrics("", place())
        assert (other.index, here.place.index) == (1, 2)
        here.count("offered_total", 5)
        here.histogram("t_seconds").observe(0.001)
        samples = parsed(here.text({"items_live": 7, "pushed_total": 3}))
        assert samples["offered_total"] == 125 and samples["taken_total"] == 120
        assert samples["t_seconds_count"] == 121 and samples["t_seconds_sum"] == pytest.approx(0.121)
        assert samples["pushed_total"] == 23
        assert [samples[f'items_live{{worker="{index}"}}'] for index in range(3)] == [5, 5, 7]
        own = parsed(here.text({"items_live": 7, "pushed_total": 3}, own=True))
        assert (own["offered_total"], own["pushed_total"], own["items_live"]) == (5, 3, 7)
        assert Metrics().text() == "", "one without a file counts alone"


def test_one_worker_needs_no_label_and_keeps_its_counts_over_a_death():
    with created(1):
        with Worker(10):
            pass
        here = Metrics("", place())
        assert here.place.index == 0
        samples = parsed(here.text({"items_live": 7}))
        assert samples["offered_total"] == 10 and samples["items_live"] == 7 and "age_seconds" not in samples


def test_a_killed_worker_s_counts_stay_and_the_next_one_counts_on():
    """Never less than before, whoever is asked: Prometheus would take less for a restart."""
    with created(2):
        here = Metrics("", place())
        seen = [0.0]
        for _ in range(3):
            with Worker("on") as worker:
                assert worker.index == 1
                until = time.monotonic() + 0.2
                while time.monotonic() < until:
                    seen.append(parsed(here.text())["offered_total"])
                assert seen[-1] > seen[-2] or seen[-1] > 100
            samples = parsed(here.text())
            seen.append(samples["offered_total"])
            assert samples["pushed_total"] == 10, "what its log carried over does not count twice"
            assert not any('worker="1"' in key for key in samples), "gauges of the dead say nothing"
        assert seen == sorted(seen)


def test_a_law_of_counters_and_the_sum_of_buckets_hold_in_every_scrape():
    with created(3), Worker("on"), Worker("on"):
        here, before = Metrics("", place()), {}
        for _ in range(150):
            samples = parsed(here.text())
            assert samples["offered_total"] == samples["taken_total"]
            assert samples["t_seconds_count"] == samples['t_seconds_bucket{le="+Inf"}']
            buckets = [value for key, value in samples.items() if "_bucket" in key]
            assert buckets == sorted(buckets)
            assert all(samples[key] >= value for key, value in before.items() if "worker" not in key)
            before = samples
        assert before["offered_total"] > 1000


def test_what_begins_anew_with_its_process_goes_on_in_its_place():
    with created(1):
        for pushed, total in ((10, 10), (3, 13), (4, 14), (2, 16)):
            metrics = Metrics("", place())
            assert parsed(metrics.text({"pushed_total": pushed}))["pushed_total"] == total
            metrics.release()


def test_after_its_release_a_place_is_not_written_to(folder):
    with created(2):
        first = Metrics("", place())
        first.publish({"items_live": 5, "pushed_total": 5})
        first.release()
        second = Metrics("", place())
        assert second.place.index == 0
        first.publish({"items_live": 9, "pushed_total": 9})
        first.release()
        samples = parsed(second.text({"items_live": 1}))
        assert samples == {'items_live{worker="0"}': 1, "pushed_total": 5}


def test_gauges_of_a_worker_that_hangs_are_not_shown(monkeypatch):
    with created(2), Worker(1):
        here = Metrics("", place())
        assert 'items_live{worker="0"}' in parsed(here.text())
        monkeypatch.setattr("pairec_fast.metrics.STALE_SECONDS", 0.0)
        samples = parsed(here.text())
        assert 'items_live{worker="0"}' not in samples and samples["offered_total"] == 1


def test_gauges_beyond_the_room_are_left_out():
    with created(2):
        one, other = Metrics("", place()), Metrics("", place())
        for number in range(2000):
            one.set("level", number, place=f"{number}{'x' * 50}")
        one.publish({"items_live": 5})
        told = [key for key in parsed(other.text()) if key.startswith("level")]
        assert 500 < len(told) < 2000


def test_a_tick_publishes_once_a_second_and_survives_what_cannot_be_read(caplog):
    with created(2):
        one, other, asked = Metrics("", place()), Metrics("", place()), []

        def values() -> dict[str, float]:
            asked.append(1)
            return {"items_live": 5}

        one.tick(values)
        one.tick(values)
        assert len(asked) == 1 and 'items_live{worker="0"}' in parsed(other.text())
        one._published = -1e9
        one.tick(lambda: 1 / 0)
        assert "gauges cannot be published" in caplog.text
        Metrics().tick(lambda: 1 / 0)  # nobody looks


def test_a_forked_child_counts_with_its_worker_and_keeps_its_gauges_to_itself():
    with created(2):
        metrics, other = Metrics("", place()), Metrics("", place())
        metrics.publish({"items_live": 5})
        pid = os.fork()
        if pid == 0:
            metrics.count("n_total", 3)
            metrics.publish({"items_live": 6})
            metrics.release()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        samples = parsed(other.text())
        assert samples["n_total"] == 3 and samples['items_live{worker="0"}'] == 5
        assert place().index == 2, "its worker holds the slot still"


def test_a_forked_child_without_a_file_counts_alone():
    metrics = Metrics("")
    metrics.count("n_total")
    pid = os.fork()
    if pid == 0:
        metrics.count("n_total", 3)
        os._exit(parsed(metrics.text())["n_total"] != 4)
    assert os.waitpid(pid, 0)[1] == 0 and parsed(metrics.text())["n_total"] == 1


def test_series_of_other_bounds_are_not_added_up():
    """A worker of a new version may come while an old one is there."""
    with created(2):
        one, other = Metrics("", place()), Metrics("", place())
        one.histogram("t_seconds", (1.0, 2.0)).observe(1)
        other.histogram("t_seconds", (1.0, 3.0)).observe(1)
        samples = parsed(other.text())
        assert samples["t_seconds_count"] == 1 and samples['t_seconds_bucket{le="2"}'] == 1


@pytest.mark.parametrize("spoil", ["missing", "short", "magic", "other version", "empty"])
def test_what_is_no_file_of_slots_is_said_and_done_without(spoil, caplog):
    with created(1) as path:
        if spoil == "missing":
            path.unlink()
        elif spoil == "short":
            os.truncate(path, 4096 + SLOT_BYTES)
        elif spoil == "empty":
            os.truncate(path, 0)
        else:
            with path.open("r+b") as file:
                file.seek(0 if spoil == "magic" else 16)
                file.write(b"\x01\x02")
        assert not place().shared
    assert "metrics of this process are its own" in caplog.text


def test_without_room_for_a_file_each_worker_counts_alone(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(slots, "FOLDERS", (str(tmp_path / "nowhere"),))
    with created(2) as path:
        assert path is None and ENVIRONMENT not in os.environ and not place().shared
    assert "no room for metrics of all workers" in caplog.text


def test_a_full_file_system_is_found_out_before_anybody_counts(monkeypatch, folder, tmp_path):
    """A page that cannot be had would kill the worker that touches it."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(slots, "FOLDERS", (str(folder), str(tmp_path / "disk")))
    allocate = os.posix_fallocate

    def full(fd: int, begin: int, size: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder)):
            raise OSError(28, "No space left on device")
        allocate(fd, begin, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with created(1) as path:
        assert path.parent == tmp_path / "disk" and not list(folder.iterdir())


def test_files_of_killed_services_are_swept_and_those_of_living_ones_are_not(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, foreign = folder / f"pairec-metrics-{gone.pid}-x", folder / "pairec-metrics-x"
    for path in (left, foreign):
        path.write_bytes(b"")
    with created(1) as first, created(1) as second:
        assert sorted(folder.iterdir()) == sorted([first, second, foreign])


def test_a_killed_maker_s_workers_count_on(folder):
    """Their file is theirs as long as they hold it open, and swept later."""
    code = "import sys\nfrom pathlib import Path\nfrom pairec_fast import slots\nslots.FOLDERS = (sys.argv[1],)\n"
    code += "with slots.created(1) as path:\n    print(path, flush=True)\n    sys.stdin.read()"
    maker = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    with maker:
        path = Path(maker.stdout.readline().strip())
        metrics = Metrics("", SlotFile(path).take())
        maker.send_signal(signal.SIGKILL)
    assert path.exists()
    with created(1):
        assert not path.exists()
    metrics.count(series("n_total"))
    assert parsed(metrics.text()) == {"n_total": 1}
