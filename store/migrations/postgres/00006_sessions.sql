-- +goose Up

-- Who is known to the identity provider by what, and who is signed in.

ALTER TABLE operator ADD COLUMN oidc_issuer TEXT NOT NULL DEFAULT '';  -- that oidc and oidc_email are words of
ALTER TABLE operator ADD COLUMN oidc_email TEXT;                       -- until the first sign-in; NULL where there is none
DROP INDEX operator_oidc;
CREATE UNIQUE INDEX operator_oidc ON operator (oidc, oidc_issuer);
CREATE UNIQUE INDEX operator_oidc_email ON operator (oidc_email, oidc_issuer);

-- A row per session; one that has ended is deleted. No token can be made from it.
CREATE TABLE operator_session (
  id       TEXT COLLATE "C" NOT NULL,
  hash     BYTEA NOT NULL,     -- SHA-256 of the token
  operator TEXT COLLATE "C" NOT NULL,
  kind     TEXT NOT NULL,
  login    TEXT NOT NULL,     -- JSON of what the provider said
  source   TEXT NOT NULL,     -- address of who signed in
  created  BIGINT NOT NULL,
  used     BIGINT NOT NULL,  -- last, to the minute
  expires  BIGINT NOT NULL
);
CREATE UNIQUE INDEX operator_session_id ON operator_session (id);
CREATE UNIQUE INDEX operator_session_hash ON operator_session (hash);
CREATE INDEX operator_session_operator ON operator_session (operator, id);
