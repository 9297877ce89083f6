"""The record log (and snapshots) under faults, in small doses; `python -m tests.faults.NAME` gives the full ones."""

from __future__ import annotations

import pytest

from tests.faults import disk, images, kill, model, native, owners, power, races, server, snapshots
from tests.faults.command import dose


def counts(module, name, times, place, change=""):
    """The counts of a row, and what is wrong with them; skips where it cannot run."""
    row = module.ROWS[name]
    try:
        totals = dose(module.__name__, row, name, times, 5, place, change)
    except native.Unavailable as reason:
        pytest.skip(str(reason))
    return totals, row.wrong(totals)


def check(module, name, times, place):
    totals, wrong = counts(module, name, times, place)
    assert not wrong, (wrong, totals)


# Death


def test_acknowledged_records_survive_sigkill_in_memory_on_disk_and_without_fdatasync(tmp_path):
    totals = kill.run_all(16, 5, tmp_path)
    assert totals["kills"] == 16 and totals["acknowledged"] > 0
    assert not kill.failed(totals), totals


@pytest.mark.parametrize("change, harm", [("catch-up", "repeated_on_disk"), ("header-crc", "lost")])
def test_the_kill_test_notices_a_log_that_is_broken(tmp_path, change, harm):
    """Without these a test that always says 0 would look the same."""
    try:
        broken = native.broken_ring(change)
    except native.Unavailable as reason:
        pytest.skip(str(reason))
    totals = kill.run(8, 5, tmp_path, log=broken)
    assert kill.failed(totals) and totals[harm] > 0, totals


# Owners


def test_children_may_not_push_nor_keep_a_descriptor_and_hurt_nobody(tmp_path):
    check(owners, "fork", 40, tmp_path)


def test_processes_that_open_at_once_get_rings_of_their_own(tmp_path):
    check(owners, "second", 6, tmp_path)


def test_a_writer_that_stands_still_holds_up_nobody_is_not_skipped_and_its_ring_is_not_emptied_under_it(tmp_path):
    check(owners, "stuck", 1, tmp_path)


def test_owner_after_owner_takes_the_same_ring_over_and_leaks_no_descriptor(tmp_path):
    check(owners, "respawn", 20, tmp_path)


# The disk


def test_the_failure_of_any_system_call_loses_nothing_and_leaks_no_descriptor(tmp_path):
    check(disk, "calls", 32, tmp_path)


def test_a_failed_fdatasync_is_never_asked_again_and_its_records_are_written_elsewhere(tmp_path):
    """A kernel that has dropped the pages answers 0 to the next one."""
    check(disk, "sync", 6, tmp_path)


def test_a_slow_disk_holds_up_no_push_and_what_is_dropped_is_counted(tmp_path):
    check(disk, "slow", 1, tmp_path)


def test_a_wall_clock_that_jumps_by_years_moves_no_deadline_and_no_rotation(tmp_path):
    check(disk, "clock", 10, tmp_path)


def test_a_disk_that_fills_while_the_log_is_killed_loses_nothing_once_it_grows(tmp_path):
    check(disk, "full", 6, tmp_path)


def test_a_disk_that_is_full_at_the_start_keeps_no_worker_from_serving(tmp_path):
    check(disk, "start", 1, tmp_path)


def test_a_ring_larger_than_its_file_system_says_what_it_needs_and_leaves_nothing(tmp_path):
    check(disk, "space", 2, tmp_path)


# Power loss


@pytest.mark.parametrize("ring", ["memory", "disk"])
def test_power_loss_takes_nothing_called_synced_nor_the_new_directory_it_lies_in_and_invents_nothing(tmp_path, ring):
    check(power, ring, 600, tmp_path)  # of fewer, chance may leave nothing in a ring on a disk


# Damage


def test_a_damaged_ring_costs_what_was_hit_and_yields_nothing_else(tmp_path):
    check(images, "ring", 300, tmp_path)


def test_a_flipped_bit_of_a_segment_is_noticed_and_costs_at_most_its_record(tmp_path):
    check(images, "flips", 300, tmp_path)


def test_a_segment_is_read_up_to_where_it_was_cut(tmp_path):
    check(images, "cuts", 150, tmp_path)


def test_a_segment_that_was_spoiled_yields_what_was_spared_and_a_repair_adds_nothing(tmp_path):
    check(images, "spoiled", 150, tmp_path)


# All of it, step by step


def test_a_hundred_thousand_steps_of_pushes_flushes_faults_and_deaths_keep_the_invariants(tmp_path):
    check(model, "model", 100_000, tmp_path)


# Sanitizers


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_a_sanitizer_finds_nothing_while_threads_push_flush_rotate_read_and_recover(tmp_path, sanitizer):
    check(races, sanitizer, 15_000, tmp_path)


def test_sanitizers_find_nothing_in_the_recovery_of_damaged_logs(tmp_path):
    check(races, "damage", 300, tmp_path)


# Real servers


def test_workers_killed_under_callbacks_lose_none_that_was_answered_200(tmp_path):
    check(server, "kill", 4, tmp_path)


def test_a_server_that_gives_up_on_its_worker_says_so_and_loses_nothing(tmp_path):
    check(server, "loop", 1, tmp_path)


def test_a_server_stopped_at_any_time_ends_in_order_and_loses_nothing(tmp_path):
    check(server, "stop", 4, tmp_path)


# Snapshots


@pytest.mark.parametrize("damage", ["flips", "cuts", "swaps"])
def test_a_damaged_snapshot_is_refused_by_name_and_a_loaded_one_goes_on(tmp_path, damage):
    check(snapshots, damage, 40, tmp_path)
