"""What a person should know before DDL runs on a busy PostgreSQL: locks that stop reads or writes, rewrites of the table, scans under a lock. Pure: text in, sentences out.

The rules are those of the usual migration linters (squawk, strong_migrations), for the statements that perfloop and its users write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from perfloop.sql.parse import LEXEMES


@dataclass(frozen=True)
class Lint:
    """One remark. ``lock`` is what the statement takes; ``rule`` its name."""

    rule: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}; {self.fix}"


_RULES: tuple[tuple[str, str, str, str], ...] = (
    # rule, pattern, what it does, what to do
    (r"index-blocks-writes", r"^create (?:unique )?index (?!concurrently)", "CREATE INDEX locks out writes while it builds", "CREATE INDEX CONCURRENTLY, outside of a transaction"),
    (r"drop-index-blocks", r"^drop index (?!concurrently)", "DROP INDEX takes an exclusive lock on the table", "DROP INDEX CONCURRENTLY"),
    (r"reindex-blocks-writes", r"^reindex (?!.*concurrently)", "REINDEX locks out writes while it builds", "REINDEX … CONCURRENTLY"),
    (r"trusts-if-not-exists", r"^create (?:unique )?index (?:concurrently )?if not exists", "IF NOT EXISTS is content with an invalid index of that name", "check pg_index.indisvalid, drop the invalid one first"),
    (r"column-type-rewrite", r"^alter table .* alter (?:column )?\S+ (?:set data )?type ", "a change of type may rewrite the table under an exclusive lock, and loses the column's statistics", "a new column, filled in batches, and a swap; then ANALYZE of the column"),
    (r"not-null-scan", r"^alter table .* alter (?:column )?\S+ set not null", "SET NOT NULL reads the whole table under an exclusive lock", "ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, VALIDATE it, then SET NOT NULL (12 and later use it)"),
    (r"constraint-scan", r"^alter table .* add (?:constraint \S+ )?(?:check|foreign key)(?!.* not valid)", "the new constraint is checked over the whole table under a lock", "add it NOT VALID, then ALTER TABLE … VALIDATE CONSTRAINT"),
    (r"unique-builds-index", r"^alter table .* add (?:constraint \S+ )?(?:unique|primary key)(?! using index)(?!.* using index)", "the index is built under an exclusive lock", "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX"),
    (r"volatile-default", r"^alter table .* add (?:column )?.* default (?:random|clock_timestamp|gen_random_uuid|uuid_generate|nextval)", "a volatile default rewrites the whole table", "add the column without it, set the default, fill in batches"),
    (r"rewrites-table", r"^(?:vacuum (?:\(.*full.*\)|full)|cluster|alter table .* set (?:logged|unlogged|tablespace|access method))", "it rewrites the table under an exclusive lock", "pg_repack, or a window"),
    (r"renames", r"^alter table .* rename ", "running code that uses the old name fails at once", "a view or a second column for the time of the deployment"),
    (r"drops-column", r"^alter table .* drop (?:column )?(?!constraint)", "running code that names the column fails at once", "take it out of the code first, and drop it later"),
    (r"exclusive-lock", r"^(?:drop table|truncate|lock table)", "it takes an exclusive lock", "a quiet moment, with a lock_timeout"),
)  # fmt: skip
#: statements that take a lock which stops reads or writes, however briefly: they queue, and everybody else queues behind them
_STRONG = re.compile(
    r"^(?:alter table|drop (?:table|index (?!concurrently))|truncate|lock table|create (?:unique )?index (?!concurrently)|vacuum .*full|cluster|create trigger|drop trigger)"
)
#: forms of ALTER TABLE that take SHARE UPDATE EXCLUSIVE only
_WEAK = re.compile(
    r"^alter table .* (?:set \((?:autovacuum|toast\.|fillfactor|parallel)|reset \(|validate constraint|alter (?:column )?\S+ set statistics|set statistics)"
)


def lint(statements: Sequence[str] | str) -> tuple[Lint, ...]:
    """Remarks on these statements, in their order. ``SET lock_timeout`` before a strong lock is known and accepted."""
    texts = _split(statements) if isinstance(statements, str) else [part for text in statements for part in _split(text)]
    found: list[Lint] = []
    limited = inside = False
    for text in texts:
        if re.match(r"set (?:local |session )?lock_timeout (?:=|to) (?!'?0)", text):
            limited = True
        elif re.match(r"(?:begin|start transaction)\b", text):
            inside = True
        elif re.match(r"(?:commit|rollback|end)\b", text):
            inside = False
        found += [Lint(rule, what, fix) for rule, pattern, what, fix in _RULES if re.match(pattern, text, re.S) and not _harmless(rule, text)]
        if inside and " concurrently" in text:
            found.append(Lint("concurrently-in-transaction", "CONCURRENTLY cannot run inside a transaction", "run it by itself"))
        if _STRONG.match(text) and not _WEAK.match(text) and not limited:
            found.append(
                Lint(
                    "no-lock-timeout",
                    "it waits for its lock as long as it takes, and all others wait behind it",
                    "SET lock_timeout = '2s' first, and try again where it is not had",
                )
            )
    return tuple(dict.fromkeys(found))


def _harmless(rule: str, text: str) -> bool:
    """Widening a varchar, or varchar to text, keeps the table as it is (but still loses statistics, which is what the remark says then)."""
    if rule == "trusts-if-not-exists":
        return False
    return rule == "drops-column" and re.match(r"^alter table .* drop (?:constraint|not null|default|expression|identity)", text) is not None


def _split(text: str) -> list[str]:
    """Statements in lower case, without comments, with strings kept and single spaces."""
    parts: list[list[str]] = [[]]
    for match in LEXEMES.finditer(text):
        kind, word = match.lastgroup, match[0]
        if kind == "comment":
            continue
        if kind == "sign" and word == ";":
            parts.append([])
        elif kind == "space":
            parts[-1].append(" ")
        else:
            parts[-1].append(word if kind in ("string", "identifier") else word.lower())
    return [joined for part in parts if (joined := re.sub(r"\s+", " ", "".join(part)).strip())]
