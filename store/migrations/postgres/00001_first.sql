-- +goose Up

-- Times are Unix milliseconds, except in certificates: Unix seconds, as in X.509.
-- Text that is compared for order has the collation "C": order of bytes, as in SQLite.

CREATE TABLE device (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id      TEXT COLLATE "C" NOT NULL,
  model   TEXT NOT NULL,
  serial  TEXT NOT NULL,
  batch   TEXT NOT NULL,
  ek      TEXT NOT NULL,
  ak      TEXT NOT NULL,
  labels  TEXT NOT NULL, -- JSON object, or empty
  state   TEXT NOT NULL,
  reason  TEXT NOT NULL,
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL
);
CREATE UNIQUE INDEX device_id ON device (id);
CREATE UNIQUE INDEX device_serial ON device (serial) WHERE serial <> '';

CREATE TABLE certificate (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  serial     BYTEA NOT NULL,
  device     BIGINT NOT NULL, -- device.seq
  profile    TEXT NOT NULL,
  not_before BIGINT NOT NULL,
  not_after  BIGINT NOT NULL,
  key        BIGINT NOT NULL, -- the first 64 bits of the SHA-256 over the SubjectPublicKeyInfo
  record     BYTEA NOT NULL,    -- record.id of the entry that tells of it
  der        BYTEA NOT NULL     -- packed
);
CREATE UNIQUE INDEX certificate_serial ON certificate (serial);
CREATE INDEX certificate_device ON certificate (device);
CREATE INDEX certificate_key ON certificate (key);

CREATE TABLE record (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  idx     BIGINT, -- place in the tree, NULL until it is sequenced
  id      BYTEA NOT NULL,
  at      BIGINT NOT NULL,
  action  TEXT NOT NULL,
  actor   TEXT NOT NULL,
  object  TEXT NOT NULL,
  outcome TEXT NOT NULL,
  decided BIGINT NOT NULL, -- 1 when the leaf carries a decision
  leaf    BYTEA NOT NULL     -- packed
);
CREATE UNIQUE INDEX record_id ON record (id);
CREATE UNIQUE INDEX record_idx ON record (idx) WHERE idx IS NOT NULL;
CREATE INDEX record_pending ON record (seq) WHERE idx IS NULL;
CREATE INDEX record_object ON record (object, seq);

CREATE TABLE tile (
  level  BIGINT NOT NULL,
  idx    BIGINT NOT NULL,
  hashes BYTEA NOT NULL
);
CREATE UNIQUE INDEX tile_place ON tile (level, idx);

CREATE TABLE checkpoint (
  id   BIGINT PRIMARY KEY CHECK (id = 1),
  note BYTEA NOT NULL
);

CREATE TABLE token (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id      TEXT COLLATE "C" NOT NULL,
  hash    BYTEA NOT NULL,
  device  TEXT NOT NULL,
  profile TEXT NOT NULL,
  uses    BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  by      TEXT NOT NULL,
  revoked BIGINT NOT NULL
);
CREATE UNIQUE INDEX token_id ON token (id);
CREATE UNIQUE INDEX token_hash ON token (hash);
CREATE INDEX token_device ON token (device, id) WHERE device <> '';

CREATE TABLE anchor (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id      TEXT COLLATE "C" NOT NULL,
  profile TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  der     BYTEA NOT NULL,
  added   BIGINT NOT NULL,
  by      TEXT NOT NULL
);
CREATE UNIQUE INDEX anchor_place ON anchor (profile, kind, id);

CREATE TABLE held (
  seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id       TEXT COLLATE "C" NOT NULL,
  key      BYTEA NOT NULL,
  device   TEXT NOT NULL,
  profile  TEXT NOT NULL,
  renewal  BIGINT NOT NULL,
  key_hash TEXT NOT NULL,
  subject  TEXT NOT NULL,
  reasons  TEXT NOT NULL, -- JSON array
  state    TEXT NOT NULL,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL,
  decided  BIGINT NOT NULL, -- 0 until an operator has spoken
  by       TEXT NOT NULL,
  reason   TEXT NOT NULL,
  serial   TEXT NOT NULL,
  attempts BIGINT NOT NULL
);
CREATE UNIQUE INDEX held_id ON held (id);
CREATE INDEX held_key ON held (key);
CREATE INDEX held_device ON held (device, id);
