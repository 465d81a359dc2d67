"""Listing is light, every worker process finds the same, and the trace goes to stderr."""

from __future__ import annotations

import json
import re

from fake_site import ENCODER, HEAD

WORKERS = """
import json, multiprocessing, sys

def found():
    from anyany.plugin.records import to_json
    from anyany.plugin.registry import registry
    return [{**to_json(r), "traceback": bool(r.traceback)} for r in registry().records]

if __name__ == "__main__":
    results = {"here": found()}
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            results[method] = pool.apply(found)
    print(json.dumps(results))
"""

LIST = """
import json, sys
from anyany.cli.main import main
code = main(["plugins", "list", "--json"])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def test_workers_find_the_same_however_they_start(site):
    site.add("good")
    site.add("bad", HEAD + "raise ImportError('no lib')")
    site.add("needy", requires=["nowhere"])
    site.module("workers", WORKERS)
    done = site.run(str(site.folder / "workers.py"), ANYANY_BLOCK="dist-absent", ANYANY_PLUGINS="good,bad,needy")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {"here", "spawn"} <= set(results)
    statuses = {r["name"]: r["status"] for r in results["here"]}
    assert {"good": "ok", "bad": "failed", "needy": "unmet"}.items() <= statuses.items()
    for method, records in results.items():
        assert records == results["here"], method


def test_listing_imports_manifests_and_nothing_heavy(site):
    module = site.add("good", heavy="raise RuntimeError('a factory was imported')")
    done = site.run("-c", LIST)
    assert done.returncode == 0, done.stderr
    assert "good" in {r["name"] for r in json.loads(done.stdout)}
    loaded = set(json.loads(done.stderr))
    assert module in loaded
    assert not loaded & {f"{module}_heavy", "torch", "numpy", "PIL", "av", "pandas", "safetensors", "rich"}
    assert not {name for name in loaded if name.startswith(("anyany.model", "anyany.parts", "anyany.media"))}


LINE = re.compile(r"anyany\[(\d+)\] (\S+): (anyany_\w+) -> (.+) \((\d+\.\d) ms\)")


def told(stderr: str) -> list[tuple[str, str, str, str]]:
    """Process, plugin, hook and outcome of each line of a trace; every line must be one."""
    found = [LINE.fullmatch(line) for line in stderr.splitlines()]
    assert all(found), stderr
    return [match.groups()[:4] for match in found]


def test_the_trace_shows_hook_calls_on_stderr_alone(site):
    slow = "@hookimpl\ndef anyany_tasks():\n    import time; time.sleep(0.05)\n    return iter(())\n"
    late = "@hookimpl\ndef anyany_tasks():\n    import time; time.sleep(0.05)\n    yield from ()\n"
    site.add("good", ENCODER + slow)
    site.add("lazy", HEAD + late)
    site.add("wrong", HEAD + "@hookimpl\ndef anyany_codecs(): raise KeyError('gone')\n")
    site.add("odd", HEAD + "@hookimpl\ndef anyany_encoders(): return [3]\n")
    allowed = {"ANYANY_PLUGINS": "good,lazy,wrong,odd"}
    quiet = site.anyany("plugins", "list", "--json", **allowed)
    traced = site.anyany("plugins", "list", "--json", **allowed, ANYANY_TRACE="1")
    assert quiet.stderr == ""
    assert quiet.stdout == traced.stdout
    lines = told(traced.stderr)
    assert [line[1:] for line in lines] == [
        ("good", "anyany_encoders", "good/one"), ("good", "anyany_tasks", "nothing"),
        ("lazy", "anyany_tasks", "nothing"), ("odd", "anyany_encoders", "int"),
        ("wrong", "anyany_codecs", "raised KeyError: 'gone'"),
    ]  # fmt: skip
    assert len({process for process, *_ in lines}) == 1
    spent = [float(LINE.fullmatch(line).group(5)) for line in traced.stderr.splitlines()]
    assert min(spent[1:3]) >= 50  # the time of a generator is that of what it gives


def test_every_worker_traces_its_own_calls(site):
    site.add("good")
    site.module("workers", WORKERS)
    done = site.run(str(site.folder / "workers.py"), ANYANY_PLUGINS="good", ANYANY_TRACE="1")
    assert done.returncode == 0, done.stderr
    lines = told(done.stderr)
    spawned = set(json.loads(done.stdout)) - {"here", "fork"}  # a forked worker has what its parent found
    assert "spawn" in spawned
    assert len(lines) == len({process for process, *_ in lines}) == 1 + len(spawned)
    assert {line[1:] for line in lines} == {("good", "anyany_encoders", "good/one")}
