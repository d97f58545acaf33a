-- +goose Up

-- What devices prove with their TPMs. A device that never did has no row in any of these.

CREATE TABLE bond (
  device    BIGINT PRIMARY KEY,  -- device.seq
  ek        BYTEA,               -- SHA-256 over the SubjectPublicKeyInfo; NULL where no endorsement key was shown
  maker     TEXT NOT NULL,       -- of the TPM, as the endorsement key's certificate said it, or empty: tpmManufacturer
  model     TEXT NOT NULL,       -- tpmModel
  version   TEXT NOT NULL,       -- tpmVersion
  ak        BYTEA,               -- likewise of the attestation key
  ak_name   BYTEA NOT NULL,      -- TPM Name
  ak_public BYTEA NOT NULL,      -- TPMT_PUBLIC, or empty
  key       BYTEA NOT NULL,      -- SHA-256 over the SubjectPublicKeyInfo of the key certified last
  vouched   TEXT NOT NULL,       -- who vouched for the attestation key last: A, B, C or E
  clock     BIGINT NOT NULL,     -- of the TPM, as quoted last: milliseconds
  reset     BIGINT NOT NULL,
  restart   BIGINT NOT NULL,
  safe      BIGINT NOT NULL,
  firmware  BIGINT NOT NULL,     -- all 64 bits; a large one is negative
  bank      TEXT NOT NULL,       -- of pcrs, or empty
  pcrs      BYTEA NOT NULL,      -- for each: index, length, value
  first     BIGINT NOT NULL,
  last      BIGINT NOT NULL,
  verdict   TEXT NOT NULL,
  affirmed  BIGINT NOT NULL,     -- 0: never
  evidence  BYTEA NOT NULL,      -- evidence.sha256 of the last
  event_log BYTEA NOT NULL       -- likewise of the last that had one, or empty
);
CREATE UNIQUE INDEX bond_ek ON bond (ek); -- one TPM, one device
CREATE UNIQUE INDEX bond_ak ON bond (ak);

CREATE TABLE evidence (
  seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sha256 BYTEA NOT NULL,
  kind   TEXT NOT NULL,
  body   BYTEA NOT NULL -- packed
);
CREATE UNIQUE INDEX evidence_sha256 ON evidence (sha256);

CREATE TABLE baseline (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL,
  model      TEXT NOT NULL,
  state      TEXT NOT NULL,
  canary     TEXT NOT NULL,
  changed    BIGINT NOT NULL,
  changed_by TEXT NOT NULL,
  why        TEXT NOT NULL,
  body       BYTEA NOT NULL -- the baseline as it was added, JSON, packed
);
CREATE UNIQUE INDEX baseline_id ON baseline (id);
CREATE INDEX baseline_model ON baseline (model, id);

-- Spent nonces, by the first 64 bits of their SHA-256: narrow rows, one index.
CREATE TABLE nonce (
  id    BIGINT PRIMARY KEY,
  until BIGINT NOT NULL
);

CREATE TABLE kept (
  key   BYTEA PRIMARY KEY,
  body  BYTEA NOT NULL,
  until BIGINT NOT NULL
);
CREATE INDEX kept_until ON kept (until);

CREATE TABLE secret (
  name  TEXT PRIMARY KEY,
  value BYTEA NOT NULL
);

CREATE INDEX device_ek ON device (ek) WHERE ek <> '';
