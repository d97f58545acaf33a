-- +goose Up

-- Changes that operators asked for with an Idempotency-Key, for a day. Nothing
-- here can be read without that key.

CREATE TABLE attempt (
  id       BLOB NOT NULL PRIMARY KEY, -- derived from the key
  decision TEXT NOT NULL,             -- record.id, if it was done
  began    INTEGER NOT NULL,
  until    INTEGER NOT NULL,          -- without an answer by then, it will never have one
  expires  INTEGER NOT NULL,
  answer   BLOB NOT NULL              -- sealed; empty: none yet
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_expires ON attempt (expires);
