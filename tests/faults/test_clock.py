"""The clock jumps, by a day and by a year, in both directions, while a study runs and between its runs."""

import json
import shutil
import signal
import subprocess

import pytest
from lab import Lab, wait_for

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* The time of day is off by what the file says; clocks that never jump stay as they are. */
static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME && !result) now->tv_sec += offset();
    return result;
}
time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"""
DAY = 86_400


@pytest.fixture
def lab(tmp_path):
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler to build a clock that jumps")
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"], cwd=tmp_path, check=True)
    lab = Lab(tmp_path / "lab")
    lab.environment |= {"LD_PRELOAD": str(tmp_path / "shim.so"), "CLOCK_OFFSET": str(tmp_path / "offset")}
    return lab


def set_clock(lab, seconds):
    """Set it so far from the real time."""
    new = lab.folder.parent / "new"
    new.write_text(str(seconds))
    new.rename(lab.folder.parent / "offset")


def test_the_clock_jumps(lab, tmp_path):
    store = tmp_path / "store"
    ledger = store / "bowl/ledger/000000.jsonl"
    set_clock(lab, 0)
    whole = lab.fingerprint(tmp_path / "whole")
    process = lab.run(store)
    for number, days in enumerate([1, -1, 400, -400]):
        mark = b'"id":"trial/%d"' % (20 * number + 5)
        wait_for(lambda mark=mark: ledger.exists() and mark in ledger.read_bytes(), process)
        set_clock(lab, days * DAY)
    wait_for(lambda: b'"id":"trial/110"' in ledger.read_bytes(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    set_clock(lab, -2000 * DAY)
    code, out, errors = lab.ended(lab.run(store))
    assert code == 0, errors
    assert json.loads(out)["fingerprint"] == whole
    assert lab.verify(store / "bowl") == ""
    years = {json.loads(line)["at"][:4] for line in ledger.read_bytes().splitlines()}
    assert len(years) >= 3, "the clock did not jump"
