"""Causes in indexes: dropped, invalid, changed, not usable for the condition as it is written, chosen for the order alone, or never there."""

from __future__ import annotations

import re

from perfloop.diagnose.query.view import SCANS, View, cause, confidence_of, quoted_table, share_text, trial_facts
from perfloop.model.finding import Confidence, Finding, Proposal
from perfloop.model.query import Condition, FactorTried, NodeRun

SHARE_MIN = 0.3
FEW_MAX = 0.1  # of the rows read that are kept
ROWS_READ_MIN = 5_000.0


def lost(view: View) -> list[Finding]:
    """The bisect found it: an index that was dropped, became invalid, or has another definition."""
    found = []
    for trial in view.trials("index"):
        if view.slower is False or not (trial.forward or trial.backward):
            continue
        found += [_lost(view, trial)]
    return found


def _lost(view: View, trial: FactorTried) -> Finding:
    name = ", ".join(trial.subjects)
    facts = trial_facts(trial)
    if trial.detail.startswith("dropped: "):
        definition = trial.detail.removeprefix("dropped: ")
        return cause(
            view,
            "index-dropped",
            f"the index {name} is gone",
            facts=(f"then: {definition}", *facts),
            confidence=confidence_of(trial),
            hypothesis="with the index as it was, the planner goes back to the old plan",
            disproof="with the index the plan stays as it is",
            fix=f"{concurrently(definition)};",
            prevention="check with perfloop query before an index is dropped; look at pg_stat_user_indexes of primary and replicas",
            proposals=(Proposal(kind="postgres-index-definition", title=f"index {name} as it was", params={"definition": definition}),),
        )
    if trial.detail.startswith("it became invalid"):
        definition = trial.detail.partition(": ")[2]
        return cause(
            view,
            "index-invalid",
            f"the index {name} is invalid: writes pay for it, no query may use it",
            facts=(f"pg_index.indisvalid of {name} is false, and was true", *facts),
            confidence=confidence_of(trial),
            hypothesis="a concurrent build or REINDEX failed and left it; rebuilt, it is used again",
            disproof="rebuilt and valid, the plan stays as it is",
            fix=f"REINDEX INDEX CONCURRENTLY {name}; (an invalid index stays even where CREATE INDEX … IF NOT EXISTS says it is there)",
            prevention="after CREATE INDEX CONCURRENTLY check pg_index.indisvalid; never trust IF NOT EXISTS",
            proposals=(Proposal(kind="postgres-index-definition", title=f"a valid index like {name}", params={"definition": definition}),),
        )
    if trial.detail.startswith("added: "):
        return cause(
            view,
            "index-added",
            f"the new index {name} draws the planner to a slower plan",
            facts=(trial.detail, *facts),
            confidence=confidence_of(trial),
            hypothesis="the planner misjudges what a scan by this index costs",
            disproof="without the index the plan stays as it is",
            fix=f"find out why the estimate is wrong before dropping it; without it: DROP INDEX CONCURRENTLY {name};",
        )
    before = trial.detail.removeprefix("changed: ").split(" → ")[0]
    return cause(
        view,
        "index-changed",
        f"the index {name} has another definition than before",
        facts=(trial.detail, *facts),
        confidence=confidence_of(trial),
        hypothesis="as it is now (operator class, collation, order, condition) the query cannot use it",
        disproof="with the old definition the plan stays as it is",
        fix=f"build it as it was beside the new one: {concurrently(before)};",
        prevention="LIKE 'x%' needs text_pattern_ops or collation C; compare pg_get_indexdef before and after a migration",
        proposals=(Proposal(kind="postgres-index-definition", title=f"index {name} as it was", params={"definition": before}),),
    )


def concurrently(definition: str) -> str:
    """CREATE INDEX as it is run on a live database."""
    return re.sub(r"^CREATE (UNIQUE )?INDEX ", lambda match: f"CREATE {match[1] or ''}INDEX CONCURRENTLY ", definition)


def implicit_cast(view: View) -> list[Finding]:
    """The column is cast to the other side's type, so that its index cannot be used."""
    found = []
    for node, condition in _scanned(view):
        if not condition.cast_matters or condition.function or condition.operator.startswith("~~"):
            continue
        if not _indexed_first(view, condition):
            continue
        changed = next((trial for trial in view.trials("type", "query") if condition.column in ".".join(trial.subjects) or trial.kind == "query"), None)
        facts = [share_text(view, node), f"the plan filters by {condition.text}: the column is cast to {condition.cast}"]
        facts += [f"an index of {condition.table} begins with {condition.column}, and an index on the bare column does not serve a cast"]
        facts += trial_facts(changed) if changed else ()
        found.append(
            cause(
                view,
                "implicit-cast",
                f"{condition.table}.{condition.column} is compared as {condition.cast}, so its index is not used",
                facts=tuple(facts),
                share=view.share(node),
                confidence=confidence_of(changed) if changed else Confidence.LIKELY,
                hypothesis="with a value of the column's own type the index is used",
                disproof="with the value cast to the column's type the plan stays as it is",
                fix=f"bind the value in the column's own type (in SQL: {condition.column} = $1::<type of the column>); where the application cannot: CREATE INDEX CONCURRENTLY ON {condition.table} (({condition.column}::{condition.cast}));",
                prevention="check the types that the driver binds: numeric for a decimal, bigint for a long, timestamptz for a time with zone",
                actor="backend developer",
                proposals=(Proposal(kind="code", title=f"bind {condition.column} in its own type"),),
            )
        )
    return found[:1]


def function_on_column(view: View) -> list[Finding]:
    """A function around the column, or a pattern that begins with a wildcard, keeps its index from being used."""
    found = []
    for node, condition in _scanned(view):
        contains = condition.operator.startswith("~~") and condition.pattern == "contains"
        if not condition.function and not contains:
            continue
        schema, bare = quoted_table(condition.table)
        expression = _expression(condition)
        if contains:
            fix = f"CREATE EXTENSION pg_trgm; CREATE INDEX CONCURRENTLY ON {condition.table} USING gin ({condition.column} gin_trgm_ops);"
        else:
            fix = f"CREATE INDEX CONCURRENTLY ON {condition.table} (({expression})); or compare the bare column (a range instead of date_trunc, citext instead of lower)"
        facts = [share_text(view, node), f"the plan filters by {condition.text}"]
        if _indexed_first(view, condition):
            facts.append(f"an index of {condition.table} begins with {condition.column}, but holds the bare values")
        found.append(
            cause(
                view,
                "function-on-column",
                f"{'a pattern that begins with a wildcard' if contains else f'{condition.function}()'} on {condition.table}.{condition.column} keeps an index from being used",
                facts=tuple(facts),
                share=view.share(node),
                hypothesis="an index on the expression itself is used",
                disproof="with that index the plan stays as it is",
                fix=fix,
                prevention="write conditions on the bare column, or index the expression",
                actor="backend developer",
                proposals=()
                if contains
                else (
                    Proposal(
                        kind="postgres-index-definition",
                        title=f"index {bare} ({expression})",
                        params={"definition": f'CREATE INDEX ON "{schema}"."{bare}" (({expression}))'},
                    ),
                ),
            )
        )
    return found[:1]


def _expression(condition: Condition) -> str:
    """The side of the condition that holds the column, as PostgreSQL prints it, without the table's alias."""
    text = condition.text
    for sign in (" = ", " >= ", " <= ", " > ", " < "):
        left, found, right = text.partition(sign)
        if found:
            side = left if condition.column in left else right
            return re.sub(r"\b\w+\.(?=\w)", "", side).strip()
    return condition.column


def order_limit(view: View) -> list[Finding]:
    """ORDER BY … LIMIT read an index in its order and threw away nearly all rows, hoping to meet the wanted ones soon."""
    found = []
    limits = [node for node in view.nodes if node.node_type == "Limit"]
    for limit in limits or view.nodes[:1]:
        for node in view.under(limit):
            by_order = node.node_type in ("Index Scan", "Index Only Scan") and not node.condition and node.filter
            if not limits or not by_order or node.removed < ROWS_READ_MIN or view.share(node) < SHARE_MIN:
                continue
            columns = list(
                dict.fromkeys(condition.column for condition in view.conditions(node.relation) if condition.operator == "=" and not condition.function)
            )
            order = _index_columns(view, node)
            if not columns or node.removed < 20 * max(1.0, node.rows_actual * node.loops):
                continue
            schema, bare = quoted_table(node.relation)
            wanted = [*([name, "asc"] for name in columns), *([name, way] for name, way in order if name not in columns)]
            text = ", ".join(f"{name}{' DESC' if way == 'desc' else ''}" for name, way in wanted)
            trial = next(iter(view.trials("statistics", "index", "size", "setting")), None)
            found.append(
                cause(
                    view,
                    "order-limit-index",
                    f"for ORDER BY … LIMIT the planner walks {node.index} in order and throws away {node.removed:,.0f} rows",
                    facts=(share_text(view, node), f"no condition narrows the walk; the filter is {node.filter}", *(trial_facts(trial) if trial else ())),
                    share=view.share(node),
                    hypothesis="an index that begins with the filtered columns and goes on with the order finds the rows at once",
                    disproof="with that index the plan stays as it is",
                    fix=f"CREATE INDEX CONCURRENTLY ON {node.relation} ({text});",
                    prevention="index filter columns first, then the order; test with values that match few rows",
                    proposals=(
                        Proposal(
                            kind="postgres-index",
                            title=f"index {bare} ({', '.join(name for name, _ in wanted)})",
                            params={"schema": schema, "table": bare, "columns": wanted},
                        ),
                    ),
                )
            )
    return found[:1]


def _index_columns(view: View, node: NodeRun) -> list[tuple[str, str]]:
    table = view.table(node.relation)
    for definition in table.indexes if table else ():
        match = re.search(rf"INDEX \"?{re.escape(node.index)}\"? ON .*? USING btree \((.*?)\)(?: INCLUDE| WITH| WHERE|$)", definition)
        if match:
            return [(part.split()[0].strip('"'), "desc" if " DESC" in part else "asc") for part in match[1].split(", ")]
    return []


def no_index(view: View) -> list[Finding]:
    """A large table is read whole for few rows, and no index begins with what the query filters by."""
    found = []
    for node in sorted(view.nodes, key=lambda one: -one.own_ms):
        if node.node_type != "Seq Scan" or view.share(node) < SHARE_MIN or node.removed < ROWS_READ_MIN:
            continue
        kept = node.rows_actual * node.loops
        if kept > FEW_MAX * (kept + node.removed):
            continue
        plain = [one for one in view.conditions(node.relation) if not one.function and not one.cast_matters and not one.operator.startswith("~~")]
        equal = list(dict.fromkeys(one.column for one in sorted(plain, key=lambda one: one.seen or 1.0) if one.operator == "="))
        ranged = [one.column for one in plain if one.operator != "=" and one.column not in equal]
        columns = [*equal[:3], *ranged[:1]]
        if not columns or any(_served(view, node.relation, column) for column in columns[:1]):
            continue
        schema, bare = quoted_table(node.relation)
        found.append(
            cause(
                view,
                "missing-index",
                f"{node.relation} is read whole for {kept:,.0f} rows: no index on ({', '.join(columns)})",
                facts=(share_text(view, node), f"{node.removed:,.0f} rows are read and thrown away", f"no index of {node.relation} begins with {columns[0]}"),
                share=view.share(node),
                hypothesis=f"with an index on ({', '.join(columns)}) the query reads only the rows it needs",
                disproof="the planner does not choose the index",
                fix=f"CREATE INDEX CONCURRENTLY ON {node.relation} ({', '.join(columns)});",
                prevention="run perfloop query on new queries against data of production size",
                proposals=(
                    Proposal(kind="postgres-index", title=f"index {bare} ({', '.join(columns)})", params={"schema": schema, "table": bare, "columns": columns}),
                ),
            )
        )
    return found[:1]


def _scanned(view: View) -> list[tuple[NodeRun, Condition]]:
    """Scans that take much of the time and throw away most of what they read, with each condition on their table; dearest first."""
    found = []
    for node in sorted(view.nodes, key=lambda one: -one.own_ms):
        kept = node.rows_actual * node.loops
        if node.node_type in SCANS and view.share(node) >= SHARE_MIN and node.removed >= ROWS_READ_MIN and kept <= FEW_MAX * (kept + node.removed):
            found += [(node, condition) for condition in view.conditions(node.relation)]
    return found


def _indexed_first(view: View, condition: Condition) -> bool:
    return _served(view, condition.table, condition.column)


def _served(view: View, relation: str, column: str) -> bool:
    """True where a whole index of the table begins with this column."""
    table = view.table(relation)
    return any(re.search(rf"USING \w+ \(\"?{re.escape(column)}\"?[ ,)]", text) and " WHERE " not in text for text in (table.indexes if table else ()))
