"""Needless indexes planted among needed ones that look alike, on a real catalogue: duplicates and redundant prefixes."""

from __future__ import annotations

import re

from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.change import drops
from perfloop.sql.connect import connect_readonly

#: names tell the truth: drop_… is needless, keep_… is not
SCHEMA = """
create table account (id bigint primary key, email text unique, team int, state text, made timestamptz, score numeric, tags jsonb, words tsvector, parent bigint references account, ref uuid not null);
create index keep_team_state on account (team, state); create index drop_team on account (team); create index drop_team_state on account (team, state);
create index keep_state_made on account (state, made desc); create index drop_state on account (state); create index keep_state_made_asc on account (state, made);
create index keep_team_open on account (team) where state = 'open'; create index drop_team_open on account (team) where state = 'open'; create index keep_team_shut on account (team) where state = 'shut';
create index keep_made_brin on account using brin (made); create index drop_made_brin on account using brin (made); create index keep_made on account (made, id); create index drop_made on account (made);
create index keep_email_lower on account (lower(email), id); create index drop_email_lower on account (lower(email)); create index drop_email on account (email); create index drop_id on account (id);
create index keep_email_c on account (email collate "C", id); create index keep_email_pattern on account (email text_pattern_ops, id); create index drop_email_pattern on account (email text_pattern_ops);
create index keep_tags on account using gin (tags); create index drop_tags on account using gin (tags); create index keep_tags_path on account using gin (tags jsonb_path_ops);
create index keep_words on account using gin (words); create index drop_words on account using gin (words); create index keep_words_gist on account using gist (words);
create index keep_parent on account (parent, made); create index drop_parent on account (parent); create unique index keep_ref on account (ref); alter table account replica identity using index keep_ref;
create index keep_ref_made on account (ref, made); create index keep_score on account (score) include (team, made); create index drop_score on account (score); create index drop_score_team on account (score) include (team);
create index keep_score_id on account (score) include (id); create index keep_hash on account using hash (team); create index drop_hash on account using hash (team);
create table line (account bigint not null, number int not null, item int, price numeric, primary key (account, number));
create index drop_account on line (account); create index keep_number on line (number, account); create index drop_number on line (number); create index drop_number_account on line (number, account); create index keep_item on line (item, price);
create index drop_item on line (item); create index keep_price on line (price nulls first, item); create index keep_price_last on line (price); create index keep_item_desc on line (item desc, price);
grant select on all tables in schema public to reader
"""


def rows(options: Options) -> list[Row]:
    """Precision and recall."""
    with Server(options.work, "pg", 15) as server:
        with server.connect() as owner:
            owner.execute("drop database if exists drops")
            owner.execute("create database drops")
            if not owner.execute("select 1 from pg_roles where rolname = 'reader'").fetchone():
                owner.execute("create role reader login")
        with server.connect(database="drops") as owner:
            owner.execute(SCHEMA.encode())
        with connect_readonly(server.dsn("reader", "drops")) as connection:
            found = {drop.index.rpartition(".")[2] for drop in drops.drops(drops.read(connection))}
    planted = set(re.findall(r"index (drop_\w+)", SCHEMA))
    right = len(found & planted)
    precision, recall = (right / len(found) if found else 0.0), right / len(planted)
    why = f"{len(planted)} planted, {len(re.findall('index keep_', SCHEMA))} needed ones beside them; duplicates and prefixes only: unused ones are not judged"
    return [
        Row("drops: precision on planted cases", round(100 * precision, 1), "%", "100", precision == 1, why=why),
        Row(
            "drops: recall on planted cases",
            round(100 * recall, 1),
            "%",
            ">= 95",
            recall >= 0.95,
            why=f"missed: {', '.join(sorted(planted - found)) or 'none'}",
        ),
    ]
