-- +goose Up

-- The last replay of each proposal, as a job. One goes on at a time.
CREATE TABLE replay (
  proposal TEXT PRIMARY KEY,
  id       TEXT NOT NULL,
  shown    TEXT NOT NULL,    -- id of the replay that the proposal shows, or empty
  ongoing  INTEGER NOT NULL, -- 1 as long as it goes on
  body     BLOB NOT NULL     -- JSON, packed
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX replay_ongoing ON replay (ongoing) WHERE ongoing = 1;

-- What replays have found. It is no part of the record, and can be found again.
CREATE TABLE difference (
  replay   TEXT NOT NULL,
  place    BLOB NOT NULL,
  part     TEXT NOT NULL,
  class    TEXT NOT NULL,
  action   TEXT NOT NULL,
  code     TEXT NOT NULL,
  resource TEXT NOT NULL,
  count    INTEGER NOT NULL,
  body     BLOB NOT NULL, -- JSON, packed; count stands above it
  PRIMARY KEY (replay, place)
) STRICT, WITHOUT ROWID;
