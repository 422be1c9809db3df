"""Causes in the planner's statistics: missing, stale, a value that they do not know, columns that go together."""

from __future__ import annotations

from perfloop.diagnose.query.view import SCANS, View, cause, confidence_of, misjudged, off_by, quoted_table, trial_facts
from perfloop.model.finding import Confidence, Finding, Proposal
from perfloop.model.query import Condition, NodeRun, TableNow

STALE_SHARE_MIN = 0.1
WRONG_MIN = 8.0  # expected and seen shares of one condition differ by this factor
TOGETHER_MIN = 5.0
TARGET = 1000


def missing(view: View) -> list[Finding]:
    """A column of the query has data but no statistics (after ALTER TYPE, ADD COLUMN, restore, upgrade), so the planner guesses; autoanalyze will not come."""
    found: list[Finding] = []
    lost = [trial for trial in view.trials("statistics") if "none now" in trial.detail]
    for table in view.evidence.tables:
        named = {condition.column for condition in view.conditions(table.name)} | _named(view, table)
        columns = [column for column in table.columns_without_statistics if column in named]
        trial = next((one for one in lost if any(subject.startswith(f"{table.name}.") for subject in one.subjects)), None)
        if not columns or not (trial or _matters(view, table.name)):
            continue
        schema, bare = quoted_table(table.name)
        facts = [f"{table.name}.{', '.join(columns)} has {table.live_rows or int(table.rows):,} rows and no statistics: the planner guesses"]
        facts += trial_facts(trial) if trial else ()
        facts += [off_by(node) for node in view.misjudged if node.relation == table.name][:2]
        if table.modified_since_analyze == 0 and table.last_analyze:
            facts.append(f"n_mod_since_analyze is 0 and last_analyze is {table.last_analyze}: autoanalyze will not come by itself")
        found.append(
            cause(
                view,
                "statistics-missing",
                f"{table.name} has no statistics for {', '.join(columns)}",
                facts=tuple(facts),
                confidence=confidence_of(trial),
                hypothesis="with statistics the planner knows how many rows the condition keeps, and plans as before",
                disproof="after ANALYZE of these columns the plan stays as it is",
                fix=f"ANALYZE {table.name} ({', '.join(columns)});",
                prevention="run ANALYZE in the same migration, after ALTER COLUMN … TYPE, ADD COLUMN with data, restore or upgrade",
                proposals=(Proposal(kind="postgres-analyze", title=f"analyze {bare}", params={"schema": schema, "table": bare, "columns": columns}),),
            )
        )
    return found


def stale(view: View) -> list[Finding]:
    """The table changed much since its statistics were taken, and the estimates of this query are wrong for it."""
    found = []
    for node, table, wrong in _wrong(view):
        share = table.modified_since_analyze / max(1.0, float(table.live_rows) or table.rows)
        beyond = [condition for condition in wrong if condition.beyond_histogram]
        if share < STALE_SHARE_MIN and not (beyond and table.modified_since_analyze > 0):
            continue
        schema, bare = quoted_table(table.name)
        facts = [off_by(node), f"{table.modified_since_analyze:,} of {table.live_rows:,} rows changed since the last ANALYZE ({table.last_analyze or 'never'})"]
        facts += [f"the value of {condition.text} lies beyond what the statistics know" for condition in beyond]
        facts += [_condition_fact(condition) for condition in wrong if condition not in beyond]
        found.append(
            cause(
                view,
                "statistics-stale",
                f"the statistics of {table.name} are older than its data",
                facts=tuple(facts),
                share=_share(view, node),
                hypothesis="fresh statistics give the right estimate, and with it another plan",
                disproof="after ANALYZE the estimate is still wrong",
                fix=f"ANALYZE {table.name}; and let it come by itself: ALTER TABLE {table.name} SET (autovacuum_analyze_scale_factor = 0.02);",
                prevention="lower autovacuum_analyze_scale_factor for large tables that grow at one end; ANALYZE after bulk loads",
                proposals=(Proposal(kind="postgres-analyze", title=f"analyze {bare}", params={"schema": schema, "table": bare, "columns": []}),),
            )
        )
    return found


def rare_value(view: View) -> list[Finding]:
    """Statistics are fresh, but one value of a column is not among its most common ones and is estimated wrongly."""
    found = []
    for node, table, wrong in _wrong(view):
        share = table.modified_since_analyze / max(1.0, float(table.live_rows) or table.rows)
        single = [condition for condition in wrong if condition.operator == "=" and not condition.function and not condition.cast and condition.has_statistics]
        if not single or share >= STALE_SHARE_MIN or any(condition.beyond_histogram and table.modified_since_analyze for condition in wrong):
            continue
        condition = max(single, key=lambda one: max(one.seen or 0, one.expected or 0))
        schema, bare = quoted_table(table.name)
        known = "one of the most common values" if condition.in_common_values else "not among the most common values"
        trial = next((one for one in view.trials("statistics") if f"{table.name}.{condition.column}" in one.subjects), None)
        found.append(
            cause(
                view,
                "rare-value",
                f"the planner misjudges this value of {table.name}.{condition.column}",
                facts=(off_by(node), _condition_fact(condition), f"the value is {known}, and the statistics are fresh", *(trial_facts(trial) if trial else ())),
                share=_share(view, node),
                confidence=confidence_of(trial),
                hypothesis="a longer list of common values and histogram holds this value",
                disproof=f"with a statistics target of {TARGET} the estimate stays wrong",
                fix=f"ALTER TABLE {table.name} ALTER COLUMN {condition.column} SET STATISTICS {TARGET}; ANALYZE {table.name} ({condition.column});",
                prevention="raise the statistics target of skewed columns that queries filter by",
                proposals=(
                    Proposal(
                        kind="postgres-statistics",
                        title=f"statistics target of {bare}.{condition.column} to {TARGET}",
                        params={"schema": schema, "table": bare, "columns": [condition.column], "target": TARGET},
                    ),
                ),
            )
        )
    return found


def correlated(view: View) -> list[Finding]:
    """Each condition alone is estimated well, both together are not: the planner multiplies what is not independent."""
    found = []
    suspects = {subject for trial in view.trials("statistics") if trial.forward and trial.backward for subject in trial.subjects}
    nodes = [node for node in view.nodes if node.node_type in SCANS and misjudged(node, TOGETHER_MIN)]
    for node in sorted(nodes, key=lambda one: not misjudged(one)):
        if not misjudged(node) and not any(f"{node.relation}.{condition.column}" in suspects for condition in view.conditions(node.relation)):
            continue  # a small error counts only where the statistics of just these columns changed the plan
        table = view.table(node.relation)
        right = [condition for condition in view.conditions(node.relation) if _right(condition)]
        columns = list(dict.fromkeys(condition.column for condition in right if condition.operator == "="))
        if table is None or len(columns) < 2 or len(right) < len(view.conditions(node.relation)):
            continue
        whole = max(table.rows, float(table.live_rows), 1.0)
        product = 1.0
        for condition in right:
            product *= condition.seen or 0.0
        if node.loops != 1 and not view.parallel(node):
            continue  # the inner side of a join: its rows are by outer row
        together = node.rows_actual * node.loops / whole
        if together < TOGETHER_MIN * product:
            continue
        schema, bare = quoted_table(table.name)
        facts = [off_by(node), *(_condition_fact(condition) for condition in right)]
        facts.append(f"independent columns would keep {product:.2%} of the rows, together they keep {together:.2%}")
        name = f"{bare}_{'_'.join(columns[:3])}_stats"[:60]
        found.append(
            cause(
                view,
                "correlated-columns",
                f"{' and '.join(columns)} of {table.name} go together, which the planner does not know",
                facts=tuple(facts),
                share=_share(view, node),
                hypothesis="extended statistics on these columns give the right estimate",
                disproof="with them the estimate stays wrong",
                fix=f"CREATE STATISTICS {name} (dependencies, mcv, ndistinct) ON {', '.join(columns)} FROM {table.name}; ANALYZE {table.name};",
                prevention="create extended statistics for columns that imply one another (city and postcode, model and maker)",
                proposals=(
                    Proposal(
                        kind="postgres-statistics",
                        title=f"extended statistics on {bare} ({', '.join(columns)})",
                        params={"schema": schema, "table": bare, "columns": columns, "name": name, "extended": True},
                    ),
                ),
            )
        )
    return found[:1]


def changed(view: View) -> list[Finding]:
    """New statistics flipped the plan, and nothing above explains it."""
    found = []
    for trial in view.trials("statistics"):
        if "none now" in trial.detail or not (trial.forward and trial.backward) or view.slower is False:
            continue
        subject = ", ".join(trial.subjects)
        tables = [table for table in view.evidence.tables if any(one.startswith(f"{table.name}.") for one in trial.subjects)]
        columns = [one.rpartition(".")[2] for one in trial.subjects]
        proposals: tuple[Proposal, ...] = ()
        fix = "compare the estimates with the rows that come (EXPLAIN ANALYZE), then raise the statistics target of the columns that are off"
        if tables:
            schema, bare = quoted_table(tables[0].name)
            alter = " ".join(f"ALTER TABLE {tables[0].name} ALTER COLUMN {column} SET STATISTICS {TARGET};" for column in columns)
            fix = f"{alter} ANALYZE {tables[0].name} ({', '.join(columns)});"
            params = {"schema": schema, "table": bare, "columns": columns, "target": TARGET}
            proposals = (Proposal(kind="postgres-statistics", title=f"statistics target of {bare} to {TARGET}", params=params),)
        found.append(
            cause(
                view,
                "statistics-changed",
                f"the newer statistics of {subject} made the planner change its plan",
                facts=trial_facts(trial),
                confidence=Confidence.CONFIRMED,
                hypothesis="two plans cost nearly the same, and the sample decides between them",
                disproof="with the statistics of then the plan is the same",
                fix=fix,
                proposals=proposals,
            )
        )
    return found


def _named(view: View, table: TableNow) -> set[str]:
    """Columns without statistics that the query's conditions, in whatever form, mention."""
    texts = [text for node in view.nodes for text in (node.condition, node.filter)] + _plan_texts(view.evidence.plan_now)
    words = " ".join(texts).replace('"', " ").replace("(", " ").replace(")", " ").replace(".", " ").replace(",", " ").split()
    return set(table.columns_without_statistics) & set(words)


def _plan_texts(plan: dict[str, object]) -> list[str]:
    texts = [
        str(plan[key]) for key in ("Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Group Key", "Sort Key") if key in plan
    ]
    children = plan.get("Plans", ())
    return texts + [text for child in (children if isinstance(children, list | tuple) else ()) for text in _plan_texts(child)]


def _matters(view: View, relation: str) -> bool:
    return any(node.relation == relation and misjudged(node) for node in view.nodes) or any(
        misjudged(node) for node in view.nodes if relation in {below.relation for below in view.under(node)}
    )


def _wrong(view: View) -> list[tuple[NodeRun, TableNow, list[Condition]]]:
    """Misjudged scans with the single conditions that are estimated wrongly."""
    found = []
    for node in view.misjudged:
        table = view.table(node.relation) if node.node_type in SCANS else None
        wrong = [condition for condition in view.conditions(node.relation) if not _right(condition)]
        if table is not None and wrong and all(condition.has_statistics for condition in wrong):
            found.append((node, table, wrong))
    return found[:2]


def _right(condition: Condition) -> bool:
    if condition.seen is None or condition.expected is None:
        return True
    low, high = sorted((max(condition.seen, 1e-9), max(condition.expected, 1e-9)))
    return high / low < WRONG_MIN or high < 1e-4


def _condition_fact(condition: Condition) -> str:
    seen = f"{condition.seen:.2%} of the rows meet it" if condition.seen is not None else "it was not counted"
    expected = f"{condition.expected:.2%} expected" if condition.expected is not None else "no estimate"
    return f"{condition.text}: {expected}, {seen}"


def _share(view: View, node: NodeRun) -> float:
    """The time of the misjudged node and of what was chosen above it because of it."""
    above = [other for other in view.nodes if node in view.under(other)]
    return min(
        1.0, sum(view.share(other) for other in above) + sum(view.share(other) for other in view.nodes if other not in above and _fed_by(view, other, node))
    )


def _fed_by(view: View, other: NodeRun, node: NodeRun) -> bool:
    """Inner sides of joins above the misjudged node run as often as it has rows."""
    return any(other in view.under(above) and "Loop" in above.node_type for above in view.nodes if node in view.under(above))
