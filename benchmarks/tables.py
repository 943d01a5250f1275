"""Write the tables of docs/benchmarks.md from the CSVs of benchmarks/results.

    python benchmarks/tables.py            # --check: change nothing, fail where the page would differ

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is one of `TABLES`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/benchmarks.md"
MARKED = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def compared(file: str, metric: str, **where: str) -> str:
    """Methods of a comparison, best first."""
    table = read(file)
    for column, value in where.items():
        table = table[table[column] == value]
    table = table.sort_values(metric, ascending=False)
    rows = [_method(row, metric) for _, row in table.iterrows()]
    return markdown(rows) + origin(table)


def _method(row: pd.Series, metric: str) -> dict[str, str]:
    same = row["method"] == row["against"]
    gap = "itself" if same else f"{row['difference']:+.3f}{interval(row, 'difference', '+.3f')}"
    found = {
        "method": row["method"],
        metric: f"{row[metric]:.3f}{interval(row, metric)}",
        f"minus {row['against']}": gap,
        "p": "" if same or pd.isna(row["p"]) else f"{row['p']:.3f}",
    }
    if "f1_macro" in row:
        found["macro F1"] = f"{row['f1_macro']:.3f}"
    return found | {
        "trained": f"{row['trainable']:,.0f}",
        "seconds": f"{row['seconds']:.0f}",
        "peak MB": f"{row['peak_mb']:.0f}",
        "runs": f"{row['runs']:.0f}",
        "pairs": f"{row['pairs']:.0f}",
        "load": f"{row['load']:.1f}",
    }


def listed(file: str, columns: Mapping[str, str], by: str | None = None, **only: str) -> str:
    """A row for each of the CSV's with these values, its columns as forms of the CSV's; `by`: the largest of
    it first."""
    table = read(file)
    for column, value in only.items():
        table = table[table[column] == value]
    told = table if by is None else table.sort_values(by, ascending=False)
    rows = [
        {name: form.format(**row) for name, form in columns.items()}
        for row in told.to_dict("records")
    ]
    return markdown(rows) + origin(table)


def between(name: str, form: str = ".3f") -> str:
    """The form of a number with its interval."""
    return f"{{{name}:{form}}} [{{{name}_low:{form}}}, {{{name}_high:{form}}}]"


STEP_TIME = {
    "variant": "{variant}",
    "batch": "{batch}",
    "multiadapt, ms": "{ours_ms:.1f}",
    "by hand, ms": "{by_hand_ms:.1f}",
    "ratio of a step": between("step_ratio"),
    "ratio of an epoch": "{epoch_ratio:.3f}",
    "steps": "{steps}",
    "load": "{load:.1f}",
}
CACHE = {
    "variant": "{variant}",
    "computed again, s": "{again_s:.1f}",
    "no folder, s": "{off_s:.1f}",
    "first run, s": "{first_s:.1f}",
    "later run, s": "{later_s:.1f}",
    "again / first": "{again_over_first:.1f}",
    "again / later": "{again_over_later:.1f}",
    "MB kept": "{mb:.0f}",
    "turns": "{turns}",
    "load": "{load:.1f}",
}
PROCESSES = {
    "variant": "{variant}",
    "one, rows a second": "{one_rows_s:.0f}",
    "two": "{several_rows_s:.0f}",
    "ratio": "{ratio:.2f}",
    "before training, one, s": "{one_before_s:.1f}",
    "two, s": "{several_before_s:.1f}",
    "difference of the last loss": "{loss_gap:.0e}",
    "load": "{load:.1f}",
}
LENGTHS = {
    "lengths": "{lengths}",
    "any together, s": "{usual_s:.1f}",
    "like lengths together, s": "{grouped_s:.1f}",
    "ratio": "{usual_over_grouped:.2f}",
    "load": "{load:.1f}",
}
FOLDS = {
    "cache": "{cache}",
    "fifteen fits, s": "{singles_s:.0f}",
    "one comparison, s": "{compare_s:.0f}",
    "ratio": "{singles_over_compare:.1f}",
    "epochs": "{epochs}",
    "load": "{load:.1f}",
}
SCORING = {
    "network": "{network}",
    "method": "{method}",
    "rows a second": "{rows_s:.0f}",
    "over bare": "{over_bare:.2f}",
    "bf16 over bare bf16": "{bf16_over_bare:.2f}",
    "bf16 over fp32, scoring": "{bf16_over_fp32:.2f}",
    "a step": "{step_bf16_over_fp32:.2f}",
    "largest change of a score, deviations": "{score_gap:.3f}",
    "load": "{load:.1f}",
}
MANY = {
    "network": "{network}",
    "method": "{method}",
    "numbers beside": "{numbers}",
    "one model, s": "{one_s:.2f}",
    "a hundred mixed, s": "{mixed_s:.2f}",
    "throughput": "{throughput:.2f}",
    "largest difference": "{difference:.0e}",
    "network, MB": "{shared_mb:.1f}",
    "a model, MB": "{adapter_mb:.2f}",
    "load": "{load:.1f}",
}
LONG = {
    "cache": "{cache}",
    "rows": "{rows:,}",
    "peak, MB": "{peak_mb:.0f}",
    "over the first": "{peak_over_first:.3f}",
    "rows a second": "{rows_per_second:.0f}",
    "table, MB": "{table_mb:.1f}",
    "load": "{load:.1f}",
}
EPOCHS = {
    "network": "{source}",
    "variant": "{variant}",
    "computed again, s": "{again_s:.2f}",
    "kept, s": "{kept_s:.3f}",
    "ratio": "{again_over_kept:.2f}",
    "photos": "{rows}",
    "turns": "{turns}",
    "load": "{load:.1f}",
}
RETRIEVAL = {
    "method": "{method}",
    "trained": "{trained:,.0f}",
    "text to image R@1": between("text_to_image_r@1"),
    "R@10": between("text_to_image_r@10"),
    "image to text R@1": between("image_to_text_r@1"),
    "R@10 ": between("image_to_text_r@10"),
    "epochs": "{epochs:.0f}",
    "seeds": "{seeds:.0f}",
}
BLIP_STEP = {
    "method": "{method}",
    "in adapters": "{adapters:,}",
    "in heads": "{heads:,}",
    "step, s": "{seconds:.1f}",
    "of Full": "{share_of_full_seconds:.2f}",
    "without a teacher, s": "{without_teacher_seconds:.1f}",
    "teacher's average, ms": "{ema_ms:.1f}",
    "step, MB": "{step_mb:.0f}",
    "of Full ": "{share_of_full_step_mb:.2f}",
    "saved, MB": "{saved_mb:.1f}",
    "resume file, MB": "{resume_mb:.0f}",
}
MEMORY = {
    "variant": "{variant}",
    "batch": "{batch}",
    "step, MB": "{step_mb:.0f}",
    "of Full": "{step_percent_of_full:.0f} %",
    "prefix kept, MB": "{kept_mb:.0f}",
    "prefix kept, of Full": "{kept_percent_of_full:.0f} %",
    "with the weights, of Full": "{process_percent_of_full:.0f} %",
    "the paper": "{paper_percent_of_full:g} %",
}
_SHOWN = ("variant", "batch", "step, MB", "of Full", "with the weights, of Full")
RECOMPUTED = {name: MEMORY[name] for name in _SHOWN}
DECODE = {
    "pictures": "{dataset}",
    "to pixels": "{pixels}",
    "threads": "{reader_threads}",
    "multiadapt, a CPU second": "{multiadapt_per_cpu_second:.0f}",
    "bare, a CPU second": "{bare_per_cpu_second:.0f}",
    "ratio": between("ratio", ".2f"),
    "load": "{load:.1f}",
}
SEARCH = {
    "index": "{kind}",
    "rows": "{rows:,}",
    "recall@10": "{recall_at_10:.3f}",
    "one query, ms": "{milliseconds_median:.2f}",
    "95th percentile": "{milliseconds_p95:.2f}",
    "in one call, ms": "{milliseconds_in_one_call:.2f}",
    "build, s": "{build_seconds:.1f}",
    "open, s": "{open_seconds:.2f}",
    "disk MB": "{disk_mb:,.0f}",
    "memory MB": "{memory_mb:,.0f}",
}


def token_cost() -> str:
    """A row for each filling, its ratio to zeros by what is done."""
    table = read("token_cost.csv")
    rows: list[dict[str, str]] = []
    for (image, filling), own in table.groupby(["image", "filling"], sort=False):
        found = {"picture's network": str(image), "filling": str(filling)}
        for _, row in own.iterrows():
            found[row["what"]] = f"{row['ms_a_row']:.1f} ms, {row['ratio']:.2f}"
        rows.append(found)
    return markdown(rows) + origin(table)


def curves(file: str, modality: str) -> str:
    """A row for each method: the metric by the share of rows that lose the modality, best area first."""
    table = read(file)
    table = table[table["modality"] == modality]
    rows: list[dict[str, str]] = []
    for name, own in table.groupby("method", sort=False):
        last = own.iloc[-1]
        same = name == last["against"] or pd.isna(last["difference"])
        rows.append(
            {"method": str(name)}
            | {f"{row['rate']:g}": f"{row['value']:.3f}" for _, row in own.iterrows()}
            | {
                "area": f"{last['area']:.3f}",
                f"at 1, minus {last['against']}": ""
                if same
                else f"{last['difference']:+.3f}{interval(last, 'difference', '+.3f')}",
                "runs": f"{last['runs']:.0f}",
            }
        )
    return markdown(sorted(rows, key=lambda row: row["area"], reverse=True)) + origin(table)


TABLES: Mapping[str, Callable[[], str]] = {
    **{
        f"missing-{file}-{modality}": lambda f=file, m=modality: curves(f"missing_{f}.csv", m)
        for file, modalities in (
            ("season", ("image", "productDisplayName", "tabular", "both")),
            ("usage", ("image", "productDisplayName", "tabular", "both")),
            ("digits", ("audio", "image", "both")),
        )
        for modality in modalities
    },
    "fashion": lambda: compared("fashion.csv", "accuracy"),
    "houses-without-18": lambda: compared(
        "houses.csv", "r2_log", zipcode="without", trunk="resnet18-trunk"
    ),
    "houses-with-18": lambda: compared(
        "houses.csv", "r2_log", zipcode="with", trunk="resnet18-trunk"
    ),
    "houses-without-50": lambda: compared(
        "houses.csv", "r2_log", zipcode="without", trunk="resnet50-trunk"
    ),
    "fashion-starter": lambda: compared("fashion_starter.csv", "accuracy"),
    "houses-starter": lambda: compared(
        "houses_starter.csv", "r2_log", zipcode="without", trunk="resnet18-trunk"
    ),
    "step-time": lambda: listed("step_time.csv", STEP_TIME),
    "cache": lambda: listed("cache.csv", CACHE),
    "epochs": lambda: listed("epochs.csv", EPOCHS),
    "retrieval": lambda: listed("retrieval.csv", RETRIEVAL, by="text_to_image_r@10"),
    "retrieval-emoji": lambda: listed("retrieval_emoji.csv", RETRIEVAL, by="text_to_image_r@10"),
    "blip-step": lambda: listed("blip_step.csv", BLIP_STEP),
    "shortcuts-name": lambda: compared("shortcuts.csv", "accuracy", against="lora"),
    "shortcuts-photo": lambda: compared("shortcuts.csv", "accuracy", against="bc1"),
    "search": lambda: listed("search.csv", SEARCH),
    "memory": lambda: listed("memory.csv", MEMORY, network="resnet-50"),
    "memory-transformer": lambda: listed("memory.csv", RECOMPUTED, network="vit-base"),
    "processes": lambda: listed("processes.csv", PROCESSES),
    "lengths": lambda: listed("lengths.csv", LENGTHS),
    "folds": lambda: listed("folds.csv", FOLDS),
    "scoring": lambda: listed("scoring.csv", SCORING),
    "many": lambda: listed("many.csv", MANY),
    "memory-predict": lambda: listed("memory_predict.csv", LONG),
    "decode": lambda: listed("decode.csv", DECODE),
    "token-cost": token_cost,
}


def read(file: str) -> pd.DataFrame:
    return pd.read_csv(HERE / "results" / file)


def interval(row: pd.Series, name: str, form: str = ".3f") -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"


def markdown(rows: list[dict[str, str]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[n]) for n in names] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def origin(table: pd.DataFrame) -> str:
    """The command, commits, versions and machine of the rows, in one line."""
    one = {n: "; ".join(dict.fromkeys(table[n].astype(str))) for n in ("versions", "machine")}
    commits = sorted({c for cell in table["commit"].astype(str) for c in cell.split()})
    command = table["command"].iloc[0]
    return f"\n`{command}`, commit {', '.join(commits)}; {one['machine']}; {one['versions']}.\n"


def filled(page: str) -> str:
    def one(found: re.Match[str]) -> str:
        try:
            table = TABLES[found[1]]()
        except FileNotFoundError:
            table = "Not measured yet.\n"
        return f"<!-- table: {found[1]} -->\n{table}<!-- end -->"

    return MARKED.sub(one, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page)
    if given.check and new != page:
        sys.exit(f"{PAGE.name} does not hold what the CSVs say; run python benchmarks/tables.py")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
