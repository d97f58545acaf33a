-- +goose Up

-- The life of the policy. Nothing here is ever deleted.

CREATE TABLE proposal (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id      TEXT COLLATE "C" NOT NULL,
  state   TEXT NOT NULL,
  author  TEXT NOT NULL,
  base    TEXT NOT NULL,
  edition BIGINT NOT NULL,
  body    BYTEA NOT NULL, -- the proposal, JSON, packed; columns stand above it
  bundle  BYTEA NOT NULL  -- tar.gz
);
CREATE UNIQUE INDEX proposal_id ON proposal (id);
CREATE INDEX proposal_state ON proposal (state, id);

CREATE TABLE revision (
  number BIGINT PRIMARY KEY,
  body   BYTEA NOT NULL, -- the revision, JSON, packed
  bundle BYTEA NOT NULL  -- tar.gz; empty where it returned to another
);

-- What is in force: one row, which every replica reads every second.
CREATE TABLE course (
  id       BIGINT PRIMARY KEY CHECK (id = 1),
  version  BIGINT NOT NULL,
  revision BIGINT NOT NULL, -- 0: the policy directory is the source
  trial    TEXT NOT NULL    -- proposal.id, or empty
);
INSERT INTO course (id, version, revision, trial) VALUES (1, 0, 0, '');

-- What each process has counted of a proposal's trial.
CREATE TABLE tally (
  proposal TEXT NOT NULL,
  process  TEXT NOT NULL,
  body     BYTEA NOT NULL, -- JSON, packed
  PRIMARY KEY (proposal, process)
);
