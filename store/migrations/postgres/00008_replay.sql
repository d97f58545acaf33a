-- +goose Up

-- The last replay of each proposal, as a job. One goes on at a time.
CREATE TABLE replay (
  proposal TEXT COLLATE "C" PRIMARY KEY,
  id       TEXT NOT NULL,
  shown    TEXT COLLATE "C" NOT NULL, -- id of the replay that the proposal shows, or empty
  ongoing  BIGINT NOT NULL, -- 1 as long as it goes on
  body     BYTEA NOT NULL -- JSON, packed
);
CREATE UNIQUE INDEX replay_ongoing ON replay (ongoing) WHERE ongoing = 1;

-- What replays have found. It is no part of the record, and can be found again.
CREATE TABLE difference (
  replay   TEXT COLLATE "C" NOT NULL,
  place    BYTEA NOT NULL,
  part     TEXT NOT NULL,
  class    TEXT NOT NULL,
  action   TEXT NOT NULL,
  code     TEXT NOT NULL,
  resource TEXT NOT NULL,
  count    BIGINT NOT NULL,
  body     BYTEA NOT NULL, -- JSON, packed; count stands above it
  PRIMARY KEY (replay, place)
);
