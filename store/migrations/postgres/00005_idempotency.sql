-- +goose Up

-- Changes that operators asked for with an Idempotency-Key, for a day. Nothing
-- here can be read without that key.

CREATE TABLE attempt (
  id       BYTEA NOT NULL PRIMARY KEY, -- derived from the key
  decision TEXT NOT NULL,              -- record.id, if it was done
  began    BIGINT NOT NULL,
  until    BIGINT NOT NULL,            -- without an answer by then, it will never have one
  expires  BIGINT NOT NULL,
  answer   BYTEA NOT NULL              -- sealed; empty: none yet
);
CREATE INDEX attempt_expires ON attempt (expires);
