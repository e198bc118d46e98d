// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace mpo::orchestrator {

// Migrations of ledger.sqlite, see store::Database::Migrate. Never edit one
// that was released: append. docs/exactly-once.md says what the keys promise.
inline std::vector<std::string> LedgerMigrations() {
  return {R"sql(
CREATE TABLE rubrics(
  sha256 TEXT PRIMARY KEY,
  version INTEGER UNIQUE,
  parent TEXT REFERENCES rubrics(sha256),
  state TEXT NOT NULL CHECK(state IN ('draft','active','retired','rejected')),
  origin TEXT NOT NULL,
  reasons TEXT NOT NULL,
  first_step INTEGER NOT NULL DEFAULT 0,
  yaml TEXT NOT NULL,
  created INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX one_active ON rubrics(state) WHERE state = 'active';
CREATE TABLE run(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  name TEXT NOT NULL,
  seed INTEGER NOT NULL,
  total_steps INTEGER NOT NULL,
  last_step INTEGER NOT NULL,
  config_sha256 TEXT NOT NULL,
  data_sha256 TEXT NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  stopped INTEGER NOT NULL DEFAULT 0,
  starts INTEGER NOT NULL DEFAULT 0,
  lease_epoch INTEGER NOT NULL DEFAULT 0,
  initial_rubric TEXT NOT NULL REFERENCES rubrics(sha256),
  active_rubric TEXT NOT NULL REFERENCES rubrics(sha256),
  created INTEGER NOT NULL) STRICT;
CREATE TABLE members(
  id TEXT PRIMARY KEY,
  role TEXT NOT NULL,
  name TEXT NOT NULL UNIQUE,
  incarnation TEXT NOT NULL,
  address TEXT NOT NULL) STRICT;
CREATE TABLE steps(
  step INTEGER PRIMARY KEY CHECK(step >= 1),
  state TEXT NOT NULL CHECK(state IN ('planned','assigned','committed')),
  rubric_sha256 TEXT NOT NULL REFERENCES rubrics(sha256),
  waived INTEGER NOT NULL DEFAULT 0,
  weights_sha256 TEXT NOT NULL DEFAULT '',
  metrics TEXT NOT NULL DEFAULT '{}',
  seconds TEXT NOT NULL DEFAULT '{}',
  planned INTEGER NOT NULL,
  committed INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE evaluations(
  step INTEGER PRIMARY KEY CHECK(step >= 0),
  complete INTEGER NOT NULL DEFAULT 0,
  metrics TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE units(
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK(kind IN ('train','eval')),
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('ready','leased','complete')),
  min_policy_version INTEGER NOT NULL,
  rubric_sha256 TEXT NOT NULL REFERENCES rubrics(sha256),
  monitor_sha256 TEXT NOT NULL,
  grants INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  lease_epoch INTEGER NOT NULL DEFAULT 0,
  member TEXT NOT NULL DEFAULT '',
  generation_seconds REAL NOT NULL DEFAULT 0,
  judging_seconds REAL NOT NULL DEFAULT 0,
  UNIQUE(kind, step, position)) STRICT;
CREATE INDEX open_units ON units(kind, step, position) WHERE state <> 'complete';
CREATE TABLE grants(
  epoch INTEGER PRIMARY KEY,
  unit TEXT NOT NULL REFERENCES units(id),
  member TEXT NOT NULL,
  granted INTEGER NOT NULL) STRICT;
CREATE TABLE prompts(
  id TEXT PRIMARY KEY,
  prompt TEXT NOT NULL) STRICT;
CREATE TABLE samples(
  key TEXT PRIMARY KEY,
  unit TEXT NOT NULL REFERENCES units(id),
  kind TEXT NOT NULL,
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  replica INTEGER NOT NULL,
  seed INTEGER NOT NULL,
  prompt TEXT NOT NULL REFERENCES prompts(id),
  complete INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER REFERENCES grants(epoch),
  text TEXT,
  response_tokens INTEGER,
  finish_reason TEXT,
  policy_version INTEGER,
  verdict TEXT,
  monitor TEXT,
  base TEXT,
  gold REAL,
  proxy REAL,
  UNIQUE(kind, step, position)) STRICT;
CREATE INDEX samples_of_unit ON samples(unit);
CREATE TABLE batches(
  sample TEXT PRIMARY KEY REFERENCES samples(key),
  step INTEGER NOT NULL REFERENCES steps(step),
  position INTEGER NOT NULL,
  UNIQUE(step, position)) STRICT;
CREATE TABLE refinements(
  id TEXT PRIMARY KEY,
  step INTEGER NOT NULL UNIQUE,
  state TEXT NOT NULL
    CHECK(state IN ('open','accepted','unchanged','rejected','failed')),
  base TEXT NOT NULL REFERENCES rubrics(sha256),
  result TEXT NOT NULL DEFAULT '',
  changes TEXT NOT NULL DEFAULT '[]',
  analyses TEXT NOT NULL DEFAULT '[]',
  memory TEXT NOT NULL DEFAULT '',
  reasons TEXT NOT NULL DEFAULT '[]',
  attempts INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE events(
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL) STRICT;
)sql"};
}

}  // namespace mpo::orchestrator
