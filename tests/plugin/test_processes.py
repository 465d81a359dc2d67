"""Listing is light, every worker process finds the same, and the trace goes to stderr."""

from __future__ import annotations

import json

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


def test_the_trace_shows_hook_calls_on_stderr_alone(site):
    site.add("good", ENCODER)
    quiet = site.anyany("plugins", "list", "--json", ANYANY_PLUGINS="good")
    traced = site.anyany("plugins", "list", "--json", ANYANY_PLUGINS="good", ANYANY_TRACE="1")
    assert quiet.stderr == ""
    assert quiet.stdout == traced.stdout
    assert "anyany_encoders" in traced.stderr
    assert "good/one" not in quiet.stderr
