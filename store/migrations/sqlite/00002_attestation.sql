-- +goose Up

-- What devices prove with their TPMs. A device that never did has no row in any of these.

CREATE TABLE bond (
  device    INTEGER PRIMARY KEY, -- device.seq
  ek        BLOB,                -- SHA-256 over the SubjectPublicKeyInfo; NULL where no endorsement key was shown
  maker     TEXT NOT NULL,       -- of the TPM, as the endorsement key's certificate said it, or empty: tpmManufacturer
  model     TEXT NOT NULL,       -- tpmModel
  version   TEXT NOT NULL,       -- tpmVersion
  ak        BLOB,                -- likewise of the attestation key
  ak_name   BLOB NOT NULL,       -- TPM Name
  ak_public BLOB NOT NULL,       -- TPMT_PUBLIC, or empty
  key       BLOB NOT NULL,       -- SHA-256 over the SubjectPublicKeyInfo of the key certified last
  vouched   TEXT NOT NULL,       -- who vouched for the attestation key last: A, B, C or E
  clock     INTEGER NOT NULL,    -- of the TPM, as quoted last: milliseconds
  reset     INTEGER NOT NULL,
  restart   INTEGER NOT NULL,
  safe      INTEGER NOT NULL,
  firmware  INTEGER NOT NULL,    -- all 64 bits; a large one is negative
  bank      TEXT NOT NULL,       -- of pcrs, or empty
  pcrs      BLOB NOT NULL,       -- for each: index, length, value
  first     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  verdict   TEXT NOT NULL,
  affirmed  INTEGER NOT NULL,    -- 0: never
  evidence  BLOB NOT NULL,       -- evidence.sha256 of the last
  event_log BLOB NOT NULL        -- likewise of the last that had one, or empty
) STRICT;
CREATE UNIQUE INDEX bond_ek ON bond (ek); -- one TPM, one device
CREATE UNIQUE INDEX bond_ak ON bond (ak);

CREATE TABLE evidence (
  seq    INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL,
  kind   TEXT NOT NULL,
  body   BLOB NOT NULL -- packed
) STRICT;
CREATE UNIQUE INDEX evidence_sha256 ON evidence (sha256);

CREATE TABLE baseline (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL,
  model      TEXT NOT NULL,
  state      TEXT NOT NULL,
  canary     TEXT NOT NULL,
  changed    INTEGER NOT NULL,
  changed_by TEXT NOT NULL,
  why        TEXT NOT NULL,
  body       BLOB NOT NULL -- the baseline as it was added, JSON, packed
) STRICT;
CREATE UNIQUE INDEX baseline_id ON baseline (id);
CREATE INDEX baseline_model ON baseline (model, id);

-- Spent nonces, by the first 64 bits of their SHA-256: rows of a few bytes, in one tree and no index.
CREATE TABLE nonce (
  id    INTEGER PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT;

CREATE TABLE kept (
  key   BLOB PRIMARY KEY,
  body  BLOB NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_until ON kept (until);

CREATE TABLE secret (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX device_ek ON device (ek) WHERE ek <> '';
