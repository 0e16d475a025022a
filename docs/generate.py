"""Rewrite what the pages derive from the code and from published results.

``python docs/generate.py`` writes; ``tests/test_docs.py`` compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import augmentation_table
import mixture_table
import mt10_table
import precision_table
import quality_table
import speed_table
import zoo_tables
from from_code import designs, evaluation_rooms, extras, house, reference

from wamkit.data.faults import KINDS
from wamkit.envs.perturbations import DIMENSIONS, Perturbation
from wamkit.zoo import GROUPS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
HEADINGS = {
    "couplings": "Couplings: the seven designs that the contract was proved on",
    "substrates": "Substrates: the joint denoiser with its future in another place",
    "backbones": "Families of estimators, trunks and action representations",
}
PAGES = (
    "README.md",
    "docs/map.md",
    "docs/reference.md",
    "docs/contract.md",
    "docs/data.md",
    "docs/ground_truth.md",
    "docs/benchmark.md",
    "docs/robustness.md",
    "docs/augmentation.md",
    "docs/mixtures.md",
    "docs/quality.md",
    "docs/world_model.md",
    "docs/zoo.md",
)


def results() -> str:
    """What published runs reached: rates with n and Wilson intervals, straight from their records."""
    rows = []
    for file in sorted(RESULTS.glob("demo-*.json")):
        run = json.loads(file.read_text())
        tasks = list(next(iter(run["designs"].values()))["tasks"])
        rows += [
            "| design | " + " | ".join(tasks) + " | mean over tasks [95 %] | call p50 / p95, ms |",
            "|---|" + "---|" * (len(tasks) + 2),
        ]
        for name, row in run["designs"].items():
            cells = [
                f"{s['successes']} of {s['n']} [{s['wilson_95'][0]:.2f}, {s['wilson_95'][1]:.2f}]"
                for s in row["tasks"].values()
            ]
            mean, latency = row["mean_over_tasks"], row["latency_ms"]
            cells += [f"{mean['rate']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"]
            cells += [f"{latency['p50']:.1f} / {latency['p95']:.1f} (n = {latency['n']})"]
            rows.append("| " + " | ".join([name, *cells]) + " |")
        seconds = ", ".join(f"{phase} {value:.0f} s" for phase, value in run["seconds"].items())
        rows += ["", f"`{run['command']}` at commit `{run['commit']}`: {run['setting']} {seconds}, together "
                 f"{sum(run['seconds'].values()):.0f} s on {run['machine']}.", ""]  # fmt: skip
    return "\n".join(rows).strip()


def comparison() -> str:
    """Every design on the embedded benchmark, from the record that ``make table`` wrote."""
    file = RESULTS / "designs.json"
    if not file.exists():
        return "No record yet: run `make table`."
    run = json.loads(file.read_text())
    parts = []
    for group, recipes in GROUPS.items():
        rows = {name: run["designs"][name] for name in recipes if name in run["designs"]}
        if rows:
            parts += [f"**{HEADINGS[group]}**", "", group_table(rows), ""]
    calls = next(iter(run["designs"].values()))["latency_ms"]["n"]
    commits = sorted({row["commit"] for row in run["designs"].values()})
    parts.append(
        f"`{run['command']}` at commit `{'`, `'.join(commits)}`: {run['setting']}; on {run['machine']}. Latency: one "
        f"robot, n = {calls} warm calls."
    )
    return "\n".join(parts)


def group_table(designs: dict[str, dict[str, Any]]) -> str:
    """Rows that are to be compared with each other."""
    tasks = list(next(iter(designs.values()))["tasks"])
    rows = [
        "| design | factorisation | substrate | backbone | "
        + " | ".join(tasks)
        + " | mean [95 %] | call p50 / p95, ms | evaluations per call "
        "| parameters | peak memory, MB |",
        "|---|---|---|---|" + "---|" * (len(tasks) + 5),
    ]
    for name, row in designs.items():
        mean, latency = row["mean_over_tasks"], row["latency_ms"]
        scores = [
            f"{s['successes']} of {s['n']}" + (f", {s['errors']} errors" if s["errors"] else "")
            for s in row["tasks"].values()
        ]
        cells = [
            name,
            "`" + row["formula"].replace("|", "\\|") + "`",
            row["tuple"]["substrate"],
            row["tuple"]["backbone"],
            *scores,
            f"{mean['rate']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]",
            f"{latency['p50']:.1f} / {latency['p95']:.1f}",
            ", ".join(f"{stream} {count:g}" for stream, count in row["nfe"].items()),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['peak_mem_mb']['process']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def fault_kinds() -> str:
    """Kinds of faults of a dataset."""
    rows = ["| kind | what is wrong |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{kind}` | {text} |" for kind, text in KINDS.items())])


def robustness() -> str:
    """What seven kinds of shift do to the designs, from the record that ``make robustness`` wrote."""
    file = RESULTS / "robustness.json"
    if not file.exists():
        return "No record yet: run `make robustness`."
    run = json.loads(file.read_text())
    designs = run["designs"]
    rows = ["| | " + " | ".join(designs) + " |", "|---|" + "---|" * len(designs)]

    def line(title: str, cells: list[str]) -> None:
        rows.append("| " + " | ".join([title, *cells]) + " |")

    line("factorisation", ["`" + d["formula"].replace("|", "\\|") + "`" for d in designs.values()])
    line("training steps, and seconds of fitting + steps",
         [f"{t['steps']}; {t['fit_s']:.0f} + {t['steps'] * t['step_s']:.0f}"
          for t in (d["training"] for d in designs.values())])  # fmt: skip
    line("Original", [rate(d["clean"]) for d in designs.values()])
    for name in DIMENSIONS:
        line(name, [shifted(d["dimensions"][name]) for d in designs.values()])
    line("all variants pooled (micro-average)",
         [f"{100 * d['micro']['rate']:.0f} % [{100 * d['micro']['wilson_95'][0]:.0f}, "
          f"{100 * d['micro']['wilson_95'][1]:.0f}], n = {d['micro']['n']}" for d in designs.values()])  # fmt: skip
    line("mean of the eight columns",
         [f"{100 * d['columns']['rate']:.0f} % [{100 * d['columns']['low']:.0f}, {100 * d['columns']['high']:.0f}]"
          for d in designs.values()])  # fmt: skip
    line("call p50 / p95, ms",
         [f"{d['latency_ms']['p50']:.1f} / {d['latency_ms']['p95']:.1f}" for d in designs.values()])  # fmt: skip
    line("peak memory, MB", [f"{d['peak_mem_mb']['process']:.0f}" for d in designs.values()])
    line("evaluation, s", [f"{d['wall_s']:.0f}" for d in designs.values()])
    commits = sorted({d["commit"] for d in designs.values()})
    rows += [
        "",
        f"`{run['command']}` at commit `{'`, `'.join(commits)}`: {run['setting']}; on {run['machine']}.",
    ]
    return "\n".join(rows)


def rate(score: dict[str, Any]) -> str:
    """Successes of n with the interval, errors named."""
    low, high = score["wilson_95"]
    errors = f", {score['errors']} errors" if score["errors"] else ""
    return f"{score['successes']} of {score['n']} [{100 * low:.0f}, {100 * high:.0f}]{errors}"


def shifted(score: dict[str, Any]) -> str:
    """The same, and the difference to the clean arm in points."""
    difference = score["difference"]
    change = f"{100 * difference['difference']:+.0f} [{100 * difference['low']:+.0f}, {100 * difference['high']:+.0f}]"
    return f"{rate(score)}; {change}"


def world_record() -> dict[str, Any] | None:
    """What ``make world_model`` wrote, if it did."""
    file = RESULTS / "world_model.json"
    return json.loads(file.read_text()) if file.exists() else None


NO_WORLD = "No record yet: run `make world_model`."


def foresight() -> str:
    """Prediction beside control: every checkpoint, then the correlations over them."""
    run = world_record()
    if run is None:
        return NO_WORLD
    parts = []
    titles = {"ladder": "One design, more and more training", "designs": "Several designs, trained alike"}
    for name, block in run["prediction"].items():
        measures = list(dict.fromkeys(m for c in block["checkpoints"].values() for m in c["measures"]))
        shown = [m for m in measures if "drift" not in m]
        rows = [f"| checkpoint | success | {' | '.join(shown)} |", "|---|---|" + "---|" * len(shown)]
        for checkpoint, found in block["checkpoints"].items():
            cells = [f"{found['measures'][m]:.3g}" if m in found["measures"] else "none" for m in shown]
            rows.append("| " + " | ".join([checkpoint, counted(found), *cells]) + " |")
        # Within one codec a drift is the measure itself, turned and moved, and says nothing more.
        told = [c for c in block["correlations"] if name != "ladder" or c["measure"] in shown]
        parts += [f"**{titles[name]}**", "", *rows, "", *agreement(told, "measure"), ""]
    parts.append(
        f"`{run['command']}` at commit `{'`, `'.join(run['commits'])}`: {run['setting']}; {run['machine']}."
    )
    return "\n".join(parts)


def counted(found: dict[str, Any]) -> str:
    """Successes of n, errors named."""
    return f"{found['successes']} of {found['n']}" + (
        f", {found['errors']} errors" if found["errors"] else ""
    )


def agreement(correlations: list[dict[str, Any]], title: str) -> list[str]:
    """Rows of coefficients with intervals and n."""
    kinds = ("pearson", "spearman", "kendall")
    rows = [
        f"| {title} | n | " + " | ".join(kind.capitalize() for kind in kinds) + " |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {found['measure']} | {found['n']} | "
        + " | ".join(coefficient(found[kind]) for kind in kinds)
        + " |"
        for found in correlations
    ]
    return rows


def coefficient(found: dict[str, Any]) -> str:
    """A coefficient with its interval."""
    value = "none" if found["value"] is None else f"{found['value']:.2f}"
    return f"{value} [{found['low']:.2f}, {found['high']:.2f}]"


def imagination() -> str:
    """Policies by imagined and by simulated success, then the correlations."""
    run = world_record()
    if run is None:
        return NO_WORLD
    dreams = run["imagination"]
    columns = [f"{c['actor']}@{c['ticks']}" for c in dreams["correlations"]]
    heads = [
        f"{'own actions' if c['actor'] == 'policy' else 'actions for other starts'}, {c['ticks']} ticks"
        for c in dreams["correlations"]
    ]
    rows = [f"| policy | simulated | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for policy, found in dreams["policies"].items():
        cells = [f"{found[c]['mean']:.2f} [{found[c]['low']:.2f}, {found[c]['high']:.2f}]" for c in columns]
        rows.append("| " + " | ".join([policy, counted(found), *cells]) + " |")
    named = [{**c, "measure": head} for c, head in zip(dreams["correlations"], heads, strict=True)]
    starts = dreams["correlations"][0]["starts"]
    rows += ["", *agreement(named, "score with"), ""]
    rows.append(
        f"At commit `{dreams['commit']}`. World `{dreams['world']['formula']}`: {run['world_setting']}. "
        f"{starts} starts per policy, "
        f"{dreams['steps_per_s']:.1f} imagined steps per second for all of them together, the policy included. "
        f"The starts alone score {dreams['start']:.2f} for every policy."
    )
    return "\n".join(rows)


def one_step(found: Mapping[str, Any]) -> list[str]:
    """Errors of one step beside those of holding still and of least squares."""

    def hand(values: list[float]) -> str:
        return ", ".join(f"{100 * value:.2f}" for value in values[:3])

    cameras = "; ".join(
        f"{camera} {found['psnr'][camera]:.1f} of {found['codec'][camera]:.1f} dB" for camera in found["psnr"]
    )
    return [
        f"| one step, {found['ticks']} ticks, n = {found['n']} | off by, cm |",
        "|---|---|",
        f"| hand x, y, z | {hand(found['state'])} |",
        f"| hand, held still | {hand(found['still'])} |",
        f"| hand, least squares from state and actions | {hand(found['linear'])} |",
        *(
            f"| object x, y, z | {hand(values)} |"
            for name, values in found["sensors"].items()
            if name == "object_pose"
        ),
        f"| pictures, of what the codec could show | {cameras} |",
    ]


def tellings(found: list[Mapping[str, Any]]) -> list[str]:
    """How well dreams under the taken actions tell solved episodes from failed ones."""

    def number(value: float | None) -> str:
        return "none" if value is None else f"{value:.2f}"

    rows = ["| dreams under the taken actions | solved | failed | score solved | score failed | AUC |"]
    rows.append("|---|---|---|---|---|---|")
    return rows + [
        f"| {row['task']} | {row['solved']} | {row['failed']} | {number(row['score_solved'])} | "
        f"{number(row['score_failed'])} | {number(row['auc'])} |"
        for row in found
    ]


def drift() -> str:
    """The scorer on real frames, and the world model under actions that were taken."""
    run = world_record()
    if run is None:
        return NO_WORLD
    found = run["imagination"]
    pictures = found["pictures"]
    return "\n\n".join(
        [
            f"**The world of known states**, `{found['world']['formula']}`",
            "\n".join(strayed(found)),
            f"**A world of pictures**, `{pictures['world']['formula']}`, {pictures['steps']} steps, same episodes",
            "\n".join(strayed(pictures)),
        ]
    )


def strayed(dreams: Mapping[str, Any]) -> list[str]:
    """One world model: its scorer, one step, dreams of solved and failed episodes, drift."""
    rows = ["| task | real frames, n | mean where solved | mean before | AUC |", "|---|---|---|---|---|"]
    rows += [
        f"| {task} | {p['n']} | {p['solved']:.2f} | {p['unsolved']:.2f} | {p['auc']:.3f} |"
        for task, p in dreams["probe"].items()
    ]
    rows += ["", *one_step(dreams["one_step"]), "", *tellings(dreams["tellings"])]
    cameras = list(dreams["drift"][0]["psnr"])
    heads = [f"{camera} camera: imagined / start held, dB" for camera in cameras]
    rows += ["", f"| ticks | n | score so far | hand x, y, z off by, cm | {' | '.join(heads)} |"]
    rows.append("|---|---|---|---|" + "---|" * len(cameras))
    for row in [r for k, r in enumerate(dreams["drift"], 1) if k <= 4 or k % 4 == 0]:
        hand = ", ".join(f"{100 * value:.1f}" for value in row["state"][:3])
        cells = [f"{row['psnr'][c]:.1f} / {row['still'][c]:.1f}" for c in cameras]
        rows.append(f"| {row['ticks']} | {row['n']} | {row['score']:.2f} | {hand} | {' | '.join(cells)} |")
    return rows


def kinds() -> str:
    """Every kind of perturbation with what it does."""
    rows = ["| dimension | kind | what it does |", "|---|---|---|"]
    for dimension in DIMENSIONS:
        for name in sorted(Perturbation.get_known_choices()):
            kind = Perturbation.get_choice_class(name)
            if kind.dimension == dimension:
                rows.append(f"| {dimension} | `{name}` | {(kind.__doc__ or '').splitlines()[0]} |")
    return "\n".join(rows)


REGIONS: Mapping[str, Callable[[], str]] = {
    "designs": designs,
    "results": results,
    "comparison": comparison,
    "robustness": robustness,
    "foresight": foresight,
    "imagination": imagination,
    "drift": drift,
    "faults": fault_kinds,
    "kinds": kinds,
    "rooms": house,
    "evaluation": evaluation_rooms,
    "reference": reference,
    "zoo states": zoo_tables.states,
    "zoo departs": zoo_tables.departs,
    "zoo missing": zoo_tables.missing,
    "zoo table": lambda: zoo_tables.table(RESULTS / "zoo.json"),
    "extras": extras,
    "augmentation": lambda: augmentation_table.table(RESULTS / "augmentation.json"),
    "presets": augmentation_table.presets,
    "speed": lambda: speed_table.table(RESULTS / "windows.json", RESULTS / "first_step.json"),
    "mixture": lambda: mixture_table.table(RESULTS / "mixture.json"),
    "mt10": lambda: mt10_table.table(RESULTS / "mt10.json"),
    **quality_table.regions(RESULTS),
    "precision before": lambda: precision_table.table(RESULTS / "precision_before.json"),
    "precision": lambda: precision_table.table(RESULTS / "precision.json"),
}


def filled(page: str) -> str:
    """The page with every region between ``<!-- NAME -->`` and ``<!-- /NAME -->`` written anew."""
    for name, make in REGIONS.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if pattern.search(page):
            body = make()
            page = pattern.sub(lambda m, body=body: m.group(1) + body + "\n" + m.group(2), page)
    return page


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(filled((ROOT / page).read_text()))
