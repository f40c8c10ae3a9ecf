"""The service as a process: `python -m farthing_inference`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from farthing_kit.testing.settings import TEST_SECRET

TIMEOUT_S = 30
POOLS = Path(__file__).parents[3] / "deploy/config/pools.toml"


def start(folder: Path, pools: Path) -> subprocess.Popen[str]:
    secret = folder / "secret"
    secret.write_bytes(TEST_SECRET)
    secret.chmod(0o600)
    env = {
        "PATH": os.environ["PATH"],
        "FARTHING_MESH_SECRET_FILE": str(secret),
        "FARTHING_BIND": "127.0.0.1:0",
        "FARTHING_INFERENCE_POOLS_FILE": str(pools),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "farthing_inference"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_starts_with_the_local_pools_says_so_and_stops_when_asked(tmp_path: Path) -> None:
    process = start(tmp_path, POOLS)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] == "inference"
    assert ready["port"] > 0
    process.terminate()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


def test_a_pools_file_that_cannot_be_used_ends_it_with_the_file_the_pool_and_the_field(tmp_path: Path) -> None:
    pools = tmp_path / "pools.toml"
    pools.write_text(POOLS.read_text().replace('market = "owned"', 'market = "rented"'))
    process = start(tmp_path, pools)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert f"{pools}: pool \\\"cpu-local\\\": market: is 'rented', must be one of" in said
