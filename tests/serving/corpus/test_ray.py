"""`map` on Ray: the results of `--local`, also if a node is lost half way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reformer_export.artifact import Artifact
from reformer_export.errors import InputError
from reformer_export.serving.corpus.running import map_corpus

from ...tools.artifact_fixtures import environment, snapshot
from .conftest import Corpus

pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install '.[map]')")
ray = pytest.importorskip("ray", reason="ray is not installed (pip install '.[map]')")

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with one core, to which a test adds others."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_is_lost_half_way(
    cluster: Any, model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path
) -> None:
    source, documents = corpus(800)
    options: Any = {"window": 300, "shard_rows": 9}
    calm, out = tmp_path / "calm", tmp_path / "out"
    map_corpus(model.path, str(source), str(calm), **options, local=True)
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    said: list[str] = []

    def progress(message: str) -> None:
        said.append(message)
        if message.startswith("20 of"):
            assert ray.cluster_resources()["CPU"] == 2
            cluster.remove_node(node, allow_graceful=False)

    done = map_corpus(model.path, str(source), str(out), **options, progress=progress)
    assert any(message.startswith("20 of 90 shards") for message in said)
    assert done.shards == 90
    assert snapshot(out) == snapshot(calm)
    assert len(documents) == 800


def test_an_error_in_an_actor_is_told_as_ours(
    cluster: Any, model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path
) -> None:
    """The corpus disappears after the driver has looked at it."""
    source, _ = corpus(4)

    def progress(message: str) -> None:
        if message.startswith("1 of"):
            for path in source.iterdir():
                path.unlink()

    with pytest.raises(InputError, match="cannot read"):
        map_corpus(model.path, str(source), str(tmp_path / "out"), shard_rows=1, progress=progress)
