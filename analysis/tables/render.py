"""A table's content as Markdown, CSV, LaTeX, HTML or JSON."""

import html as escapes
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.tables.intervals import IMAGES, SEEDS_TOO

Content = Mapping[str, Any]
Grid = tuple[list[str], list[list[str]]]  # head, lines


def heading(content: Content) -> str:
    """Table N: title, or the experiment's name where the paper has no such table."""
    name = (
        content["table"].replace("table", "Table ") if content["table"] else content["experiment"]
    )
    return f"{name}: {content['title']}"


def _number(values: Mapping[str, Any], name: str, form: str = ".1f", absent: str = "–") -> str:
    value = values.get(name)
    return (
        absent
        if value is None
        else format(value["accuracy"] if isinstance(value, Mapping) else value, form)
    )


def main_grid(content: Content) -> Grid:
    """Reported, measured and difference of every row, with the interval of Avg and the verdict."""
    columns = [*content["columns"], "Avg", "W-Avg"]
    lines: list[list[str]] = []
    for row in content["rows"]:
        name = row["name"]
        if row["reported"]:
            lines.append(
                [
                    name,
                    "reported",
                    *(_number(row["reported"], column) for column in columns),
                    "",
                    "",
                    "",
                ]
            )
            name = ""
        kinds = ", ".join(
            dict.fromkeys(why.partition(":")[0] for why in row["why"])
        )  # the notes say more
        verdict = row["verdict"] + (f" ({kinds})" if row["verdict"] and kinds else "")
        if "measured" in row:
            if row["missing_seeds"]:
                verdict = f"{verdict}, without seed {' '.join(map(str, row['missing_seeds']))}".removeprefix(
                    ", "
                )
            average = row["measured"]["Avg"]
            interval = f"{average['low']:.1f} to {average['high']:.1f}"
            cells = [_number(row["measured"], column) for column in columns]
            lines.append(
                [name, "measured", *cells, interval, _covered(average, row["seeds"]), verdict]
            )
            if row["difference"]:
                differences = [_number(row["difference"], column, "+.1f", "") for column in columns]
                lines.append(["", "difference", *differences, "", "", ""])
        elif row["verdict"] == "missing":
            lines.append([name, "measured", *["missing"] * (len(columns) + 2), verdict])
    return ["row", "", *columns, "95 % of Avg", "covers", "verdict"], lines


def _covered(estimate: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """The variance that an interval covers, and the seeds that it is about."""
    named = f"seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}"
    return f"images, {named}" if estimate["covers"] == SEEDS_TOO else f"images (of {named})"


def comparison_grid(content: Content) -> Grid:
    """Differences between rows."""
    head = [
        "difference of Avg",
        "reported",
        "measured",
        "95 % interval",
        "covers",
        "detectable",
        "verdict",
        "W-Avg",
    ]
    head.append("McNemar p < 0.05")
    lines = []
    for one in content["comparisons"]:
        paper = "–" if one["reported"] is None else f"{one['reported']:+.1f}"
        cells = [f"{one['row']} − {one['other']}", paper]
        why = f" ({'; '.join(one['why'])})" if one.get("why") else ""
        if "Avg" not in one:
            missing = "missing" if one["verdict"] == "missing" else "–"
            lines.append([*cells, *[missing] * 4, one["verdict"] + why, *[missing] * 2])
            continue
        size = f", size {one['size']}" if "size" in one else ""
        average, pooled = one["Avg"], one["W-Avg"]
        detectable = "none" if one["detectable"] is None else f"{one['detectable']:.1f}"
        cells += [f"{average['accuracy']:+.1f}", f"{average['low']:+.1f} to {average['high']:+.1f}"]
        cells += [_covered(average, one["seeds"]), detectable, one["verdict"] + size + why]
        cells += [f"{pooled['accuracy']:+.1f} ({pooled['low']:+.1f} to {pooled['high']:+.1f})"]
        lines.append([*cells, _found(one["mcnemar"])])
    return head, lines


def _found(tests: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The subsets in which a test found a difference, with its sign; with the number of seeds where there are several."""
    parts = []
    for name in next(iter(tests.values())):
        found = [
            test[name]["won"] > test[name]["lost"]
            for test in tests.values()
            if test[name]["p"] < 0.05
        ]
        signs = {"+": sum(found), "−": len(found) - sum(found)}
        if len(tests) == 1:
            parts += [f"{name} {sign}" for sign, count in signs.items() if count]
        elif found:
            parts.append(
                f"{name} {' '.join(f'{sign}{count}' for sign, count in signs.items() if count)} of {len(tests)}"
            )
    return ", ".join(parts) or "none"


def ledger_grid(content: Content) -> Grid:
    """What each row took."""
    head = [
        "row",
        "images seen",
        "teacher",
        "pre-training",
        "fine-tuning",
        "hours of training",
        "parameters",
    ]
    lines = []
    for row in content["rows"]:
        ledger = row.get("ledger", {})
        if "images" in ledger:
            parts = [
                "unknown" if ledger[f"{name}_images"] is None else f"{ledger[f'{name}_images']:,}"
                for name in STAGES
            ]
            least = "over " if "unknown" in parts else ""
            hours = f"{ledger['hours']:.3g} {ledger['unit']}"
            lines.append(
                [
                    row["name"],
                    f"{least}{ledger['images']:,}",
                    *parts,
                    hours,
                    f"{ledger['parameters']:,}",
                ]
            )
        elif "missing" in ledger or (row["verdict"] == "missing" and "seeds" in row):
            lines.append([row["name"], *["missing"] * (len(head) - 1)])
    return head, lines


STAGES = ("teacher", "pretrain", "finetune")
GRIDS: tuple[tuple[str, Callable[[Content], Grid]], ...] = (
    ("", main_grid),
    ("Differences between rows", comparison_grid),
    (
        "What a row took (mean over seeds; images of its teacher included, hours of its runs; shared runs count in full)",
        ledger_grid,
    ),
)


def markdown(contents: Sequence[Content]) -> str:
    """For people, in a terminal or on a page."""
    parts = []
    for content in contents:
        part = [f"# {heading(content)}", ""]
        for title, grid in GRIDS:
            head, lines = grid(content)
            if lines:
                part += [*([f"## {title}", ""] if title else []), *_pipes(head, lines), ""]
        part += [f"- {text}" for text in (*content["notes"], *content["rules"])]
        parts.append("\n".join(part))
    return "\n\n".join(parts) + "\n"


def _pipes(head: list[str], lines: list[list[str]]) -> list[str]:
    safe = [[cell.replace("|", "\\|") for cell in line] for line in (head, *lines)]
    widths = [max(len(line[column]) for line in safe) for column in range(len(head))]

    def row(cells: list[str]) -> str:
        return (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            + " |"
        )

    return [
        row(safe[0]),
        "|" + "|".join("-" * (width + 2) for width in widths) + "|",
        *map(row, safe[1:]),
    ]


def frame(contents: Sequence[Content]) -> pd.DataFrame:
    """Long form, for machines: a line for each row, column and source, and for each difference between rows."""
    lines: list[dict[str, Any]] = []
    for content in contents:
        base = {
            "experiment": content["experiment"],
            "table": content["table"],
            "scale": content["scale"],
        }
        for row in content["rows"]:
            own = base | {"row": row["name"]}
            for name, value in row["reported"].items():
                lines.append(own | {"source": "reported", "column": name, "accuracy": value})
            told = {"source": "measured", "verdict": row["verdict"], "why": "; ".join(row["why"])}
            if "measured" not in row:
                if row["verdict"] == "missing":
                    lines.append(own | told | {"column": "missing"})
                continue
            origin = {
                "seeds": " ".join(map(str, row["seeds"])),
                "missing_seeds": " ".join(map(str, row["missing_seeds"])),
                "runs": " ".join(run["evaluate"] for run in row["runs"].values()),
            }
            for name, cell in row["measured"].items():
                lines.append(
                    own
                    | told
                    | {"column": name, **cell, "difference": row["difference"].get(name), **origin}
                )
            for name, value in row["ledger"].items():
                lines.append(own | {"source": "ledger", "column": name, "value": value})
        for one in content["comparisons"]:
            own = base | {"row": one["row"], "against": one["other"], "source": "paired difference"}
            own["seeds"] = " ".join(map(str, one.get("seeds", ())))
            told = {name: one.get(name) for name in ("verdict", "size", "reported", "detectable")}
            told["why"] = "; ".join(one.get("why", ()))
            if "Avg" not in one:
                lines.append(own | told | {"column": one["verdict"]})
                continue
            lines += [
                own | told | {"column": "Avg", **one["Avg"]},
                own | {"column": "W-Avg", **one["W-Avg"]},
            ]
            for seed, tests in one["mcnemar"].items():
                test = own | {"source": "McNemar", "seeds": seed, "covers": IMAGES}
                lines += [test | {"column": name, **result} for name, result in tests.items()]
    columns = (
        "experiment table scale row against source column accuracy low high error covers correct images difference reported "
        "detectable verdict size why seeds missing_seeds runs won lost p value"
    )
    made = pd.DataFrame(lines)
    for name in ("correct", "images", "won", "lost"):
        made[name] = made[name].astype("Int64") if name in made else pd.NA
    return made.reindex(columns=columns.split())


def csv(contents: Sequence[Content]) -> str:
    """`frame` as comma-separated values."""
    return frame(contents).to_csv(index=False)


def _json(contents: Sequence[Content]) -> str:
    return (
        json.dumps(list(contents), indent=1, ensure_ascii=False, allow_nan=False, default=str)
        + "\n"
    )


def latex(contents: Sequence[Content]) -> str:
    """Tables for a LaTeX document; needs \\usepackage{booktabs, graphicx} and a font with the rows' characters."""
    parts = [
        "% needs \\usepackage{booktabs, graphicx}; for Chinese names xelatex with \\usepackage{xeCJK}\n"
    ]
    for content in contents:
        for title, grid in GRIDS:
            head, lines = _narrower(*grid(content))
            if not lines:
                continue
            body = [[_tex(cell) for cell in line] for line in lines]
            table = pd.DataFrame(body, columns=[_tex(cell) for cell in head]).style.hide(
                axis="index"
            )
            sides = "".join("r" if right else "l" for right in _numeric(head, lines))
            inner = table.to_latex(hrules=True, column_format=sides).strip()
            about = " ".join(content["notes"][:2])  # scale, seeds, and what intervals cover
            caption = _tex(
                f"Reproduction of {heading(content)}. {f'{title}. ' if title else ''}{about}"
            )
            scaled = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{inner}}}"
            parts.append(
                f"\\begin{{table}}\n\\centering\n{scaled}\n\\caption{{{caption}}}\n\\end{{table}}\n"
            )
    return "\n".join(parts)


def _narrower(head: list[str], lines: list[list[str]]) -> Grid:
    """Without the columns that a printed page has no room for: what intervals cover stands in the caption, tests in the CSV."""
    kept = [place for place, name in enumerate(head) if name not in ("covers", "McNemar p < 0.05")]
    return [head[place] for place in kept], [[line[place] for place in kept] for line in lines]


TEX = {
    "\\": r"\textbackslash{}",
    "−": "$-$",
    "–": "--",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{mark: f"${mark}$" for mark in "<>|"},
    "[": "{[}",  # at the start of a line it would be an option of the line before
}


def _tex(text: str) -> str:
    return "".join(TEX.get(mark, mark) for mark in text).replace("`", "")


VERDICTS = ("reproduced", "holds", "differs", "reversed")  # those that a color tells
STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em;}.wide{overflow-x:auto}ul{max-width:70em}"
    "table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .5em;text-align:left;white-space:nowrap;"
    "border-bottom:1px solid #ddd}thead th{border-bottom:2px solid #444}.n{text-align:right}"
    "th:first-child,td:first-child{position:sticky;left:0;background:#fff}td:last-child{white-space:normal;min-width:10em}"
    "tr.reproduced,tr.holds{background:#e3f0f9}tr.differs,tr.reversed{background:#fbe6da}"
)


def html_fragment(content: Content, level: int = 1) -> str:
    """One table with its notes, as a part of a page; its heading is of that level, and below the first one notes are folded."""
    parts = [f"<h{level}>{escapes.escape(heading(content))}</h{level}>"]
    for title, grid in GRIDS:
        head, lines = grid(content)
        if lines:
            above = f"<h{level + 1}>{title}</h{level + 1}>" if title else ""
            parts.append(f"{above}<div class=wide>{_html_table(head, lines)}</div>")
    notes = "".join(
        f"<li>{_html_text(text)}</li>" for text in (*content["notes"], *content["rules"])
    )
    as_html_table = f"<ul>{notes}</ul>"
    folded = f"<details><summary>notes and rules of this table</summary>{as_html_table}</details>"
    return "\n".join([*parts, as_html_table if level == 1 else folded])


def html(contents: Sequence[Content]) -> str:
    """One page that needs nothing else."""
    parts = [html_fragment(content) for content in contents]
    title = escapes.escape(
        heading(contents[0])
        if len(contents) == 1
        else f"{len(contents)} tables of the reproduction"
    )
    head_tags = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return (
        f"<!doctype html>\n<html lang=en>{head_tags}\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _html_text(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", escapes.escape(text))


def _numeric(head: list[str], lines: list[list[str]]) -> list[bool]:
    """Which columns are of numbers, and go to the right."""
    return [
        column > 0 and any(re.match(r"[+-]?\d", line[column]) for line in lines)
        for column in range(len(head))
    ]


def _html_table(head: list[str], lines: list[list[str]]) -> str:
    numeric = _numeric(head, lines)

    def row(cells: list[str], tag: str) -> str:
        marks = [" class=n" if right else "" for right in numeric]
        verdict = next(
            (
                f" class={name}"
                for name in VERDICTS
                if cells[-1].startswith(name) or name in cells[-3:]
            ),
            "",
        )
        made = (
            f"<{tag}{mark}>{escapes.escape(cell).replace('_', '_<wbr>')}</{tag}>"
            for cell, mark in zip(cells, marks, strict=True)
        )
        return f"<tr{verdict}>{''.join(made)}</tr>"

    groups: list[list[str]] = []  # lines of one row: a line without a name belongs to the one above
    for line in lines:
        if line[0] or not groups:
            groups.append([])
        groups[-1].append(row(line, "td"))
    body = "".join(f"<tbody>{''.join(group)}</tbody>" for group in groups)
    return f"<table><thead>{row(head, 'th')}</thead>{body}</table>"


FORMATS: dict[str, Callable[[Sequence[Content]], str]] = {
    "md": markdown,
    "csv": csv,
    "latex": latex,
    "html": html,
    "json": _json,
}
