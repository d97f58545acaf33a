-- +goose Up

-- The life of the policy. Nothing here is ever deleted.

CREATE TABLE proposal (
  seq     INTEGER PRIMARY KEY,
  id      TEXT NOT NULL,
  state   TEXT NOT NULL,
  author  TEXT NOT NULL,
  base    TEXT NOT NULL,
  edition INTEGER NOT NULL,
  body    BLOB NOT NULL, -- the proposal, JSON, packed; columns stand above it
  bundle  BLOB NOT NULL  -- tar.gz
) STRICT;
CREATE UNIQUE INDEX proposal_id ON proposal (id);
CREATE INDEX proposal_state ON proposal (state, id);

CREATE TABLE revision (
  number INTEGER PRIMARY KEY,
  body   BLOB NOT NULL, -- the revision, JSON, packed
  bundle BLOB NOT NULL  -- tar.gz; empty where it returned to another
) STRICT;

-- What is in force: one row, which every replica reads every second.
CREATE TABLE course (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  revision INTEGER NOT NULL, -- 0: the policy directory is the source
  trial    TEXT NOT NULL     -- proposal.id, or empty
) STRICT;
INSERT INTO course (id, version, revision, trial) VALUES (1, 0, 0, '');

-- What each process has counted of a proposal's trial.
CREATE TABLE tally (
  proposal TEXT NOT NULL,
  process  TEXT NOT NULL,
  body     BLOB NOT NULL, -- JSON, packed
  PRIMARY KEY (proposal, process)
) STRICT, WITHOUT ROWID;
