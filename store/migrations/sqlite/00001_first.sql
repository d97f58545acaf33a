-- +goose Up

-- Times are Unix milliseconds, except in certificates: Unix seconds, as in X.509.
-- Tables grow at the end (INTEGER PRIMARY KEY is the rowid), so that a commit
-- touches few pages; random keys stand only in narrow indexes.

CREATE TABLE device (
  seq     INTEGER PRIMARY KEY,
  id      TEXT NOT NULL,
  model   TEXT NOT NULL,
  serial  TEXT NOT NULL,
  batch   TEXT NOT NULL,
  ek      TEXT NOT NULL,
  ak      TEXT NOT NULL,
  labels  TEXT NOT NULL, -- JSON object, or empty
  state   TEXT NOT NULL,
  reason  TEXT NOT NULL,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX device_id ON device (id);
CREATE UNIQUE INDEX device_serial ON device (serial) WHERE serial <> '';

CREATE TABLE certificate (
  seq        INTEGER PRIMARY KEY,
  serial     BLOB NOT NULL,
  device     INTEGER NOT NULL, -- device.seq
  profile    TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  key        INTEGER NOT NULL, -- the first 64 bits of the SHA-256 over the SubjectPublicKeyInfo
  record     BLOB NOT NULL,    -- record.id of the entry that tells of it
  der        BLOB NOT NULL     -- packed
) STRICT;
CREATE UNIQUE INDEX certificate_serial ON certificate (serial);
CREATE INDEX certificate_device ON certificate (device);
CREATE INDEX certificate_key ON certificate (key);

CREATE TABLE record (
  seq     INTEGER PRIMARY KEY,
  idx     INTEGER, -- place in the tree, NULL until it is sequenced
  id      BLOB NOT NULL,
  at      INTEGER NOT NULL,
  action  TEXT NOT NULL,
  actor   TEXT NOT NULL,
  object  TEXT NOT NULL,
  outcome TEXT NOT NULL,
  decided INTEGER NOT NULL, -- 1 when the leaf carries a decision
  leaf    BLOB NOT NULL     -- packed
) STRICT;
CREATE UNIQUE INDEX record_id ON record (id);
CREATE UNIQUE INDEX record_idx ON record (idx) WHERE idx IS NOT NULL;
CREATE INDEX record_pending ON record (seq) WHERE idx IS NULL;
CREATE INDEX record_object ON record (object, seq);

CREATE TABLE tile (
  level  INTEGER NOT NULL,
  idx    INTEGER NOT NULL,
  hashes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX tile_place ON tile (level, idx);

CREATE TABLE checkpoint (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  note BLOB NOT NULL
) STRICT;

CREATE TABLE token (
  seq     INTEGER PRIMARY KEY,
  id      TEXT NOT NULL,
  hash    BLOB NOT NULL,
  device  TEXT NOT NULL,
  profile TEXT NOT NULL,
  uses    INTEGER NOT NULL,
  used    INTEGER NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  by      TEXT NOT NULL,
  revoked INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX token_id ON token (id);
CREATE UNIQUE INDEX token_hash ON token (hash);
CREATE INDEX token_device ON token (device, id) WHERE device <> '';

CREATE TABLE anchor (
  seq     INTEGER PRIMARY KEY,
  id      TEXT NOT NULL,
  profile TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  der     BLOB NOT NULL,
  added   INTEGER NOT NULL,
  by      TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX anchor_place ON anchor (profile, kind, id);

CREATE TABLE held (
  seq      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL,
  key      BLOB NOT NULL,
  device   TEXT NOT NULL,
  profile  TEXT NOT NULL,
  renewal  INTEGER NOT NULL,
  key_hash TEXT NOT NULL,
  subject  TEXT NOT NULL,
  reasons  TEXT NOT NULL, -- JSON array
  state    TEXT NOT NULL,
  created  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  decided  INTEGER NOT NULL, -- 0 until an operator has spoken
  by       TEXT NOT NULL,
  reason   TEXT NOT NULL,
  serial   TEXT NOT NULL,
  attempts INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX held_id ON held (id);
CREATE INDEX held_key ON held (key);
CREATE INDEX held_device ON held (device, id);
