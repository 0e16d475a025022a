"""``python -m benchmarks.peers.lerobot_evaluate CHECKPOINT OUT``: closed-loop evaluation of a policy of lerobot.

CHECKPOINT is a folder of ``lerobot_train.py``. Simulators, episode seeds, journal and report are those of ``wamkit
evaluate``: an interrupted evaluation goes on, and its report stands beside those of wamkit's designs.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from benchmarks.peers.lerobot_policy import LeRobotPolicy, serving
from rich.console import Console

from wamkit.config import encode
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design.checkpoint import checkpoint_digest
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.output.results import check_outputs, write_results
from wamkit.evaluation.report.report import Report
from wamkit.storage.output import output
from wamkit.storage.provenance import decisive, versions
from wamkit.verbs.evaluate import JOURNAL, report_result
from wamkit.verbs.inputs import dataset_mark

FILES = ("config.json", "model.safetensors", "peer.json")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dataset", type=Path, required=True, help="that it was trained on")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--name", default="peer", help="in the report")
    parser.add_argument("--episodes", type=int, default=20, help="per task")
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="such as num_inference_steps=10"
    )
    return parser.parse_args()


def evaluate(chosen: argparse.Namespace) -> Report:
    """Evaluate and write the report's files into ``chosen.out``."""
    check_outputs(failures=4, rerun=False)
    dataset, checkpoint = Dataset(chosen.dataset), checkpoint_digest(chosen.checkpoint, FILES)
    spec = data_spec(dataset)
    config = EvaluationConfig(
        tasks=tuple(chosen.tasks), episodes=chosen.episodes, seed=chosen.seed, slots=chosen.slots
    )
    inputs = {
        "checkpoint": checkpoint,
        "name": chosen.name,
        "set": chosen.set,
        "dataset": dataset_mark(chosen.dataset),
        "evaluation": encode(config),
        "versions": decisive(versions()),
    }
    command = serving(chosen.checkpoint, chosen.set)
    with LeRobotPolicy(command, chosen.name, (spec.observation, spec.action)) as policy:
        said = [dataclasses.replace(config.env, task=task).phrases()[0] for task in config.tasks]
        policy.require_instructions(said)
        with output(report_result(chosen.out), inputs, overwrite=True):
            done = rollout(
                policy,
                config,
                dataset=dataset.fingerprint(),
                checkpoint=checkpoint,
                journal=chosen.out / JOURNAL,
            )
            return write_results(done, config, chosen.out)


if __name__ == "__main__":
    Console().print(evaluate(options()).headline())
