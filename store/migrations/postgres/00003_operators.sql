-- +goose Up

-- Who may manage the server. Entries stay for good, as the record tells of them.

CREATE TABLE operator (
  name       TEXT COLLATE "C" NOT NULL,
  roles      TEXT NOT NULL,   -- JSON
  state      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  oidc       TEXT,            -- NULL where there is none
  created    BIGINT NOT NULL,
  by         TEXT NOT NULL,
  changed    BIGINT NOT NULL,
  changed_by TEXT NOT NULL,
  breakglass TEXT NOT NULL    -- JSON of a caller by break-glass, or empty
);
CREATE UNIQUE INDEX operator_name ON operator (name);
CREATE UNIQUE INDEX operator_oidc ON operator (oidc);

CREATE TABLE operator_certificate (
  seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sha256    BYTEA NOT NULL,
  operator  TEXT COLLATE "C" NOT NULL,
  serial    TEXT NOT NULL,
  issued    BIGINT NOT NULL,
  not_after BIGINT NOT NULL,
  revoked   BIGINT NOT NULL,  -- 0: it is not
  reason    TEXT NOT NULL
);
CREATE UNIQUE INDEX operator_certificate_sha256 ON operator_certificate (sha256);
CREATE INDEX operator_certificate_operator ON operator_certificate (operator, seq);

-- Break-glass credentials, by their public keys.
CREATE TABLE seal (
  id      TEXT PRIMARY KEY,
  key     BYTEA NOT NULL,     -- SHA-256 over the SubjectPublicKeyInfo
  state   TEXT NOT NULL,
  created BIGINT NOT NULL,
  by      TEXT NOT NULL
);
CREATE UNIQUE INDEX seal_key ON seal (key);
