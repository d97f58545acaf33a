-- +goose Up

-- A row per certificate that counts no more. Rows are committed in the order of seq, and none is deleted.
CREATE TABLE revocation (
  seq         INTEGER PRIMARY KEY,
  certificate INTEGER NOT NULL, -- certificate.seq
  issuer      TEXT NOT NULL,    -- by the name that its lists go by
  not_after   INTEGER NOT NULL, -- the certificate's, Unix seconds
  at          INTEGER NOT NULL, -- Unix seconds
  reason      INTEGER NOT NULL, -- the number of RFC 5280, Section 5.3.1
  bars        INTEGER NOT NULL, -- 1 where no certificate over its key is issued again
  by          TEXT NOT NULL,
  record      BLOB NOT NULL     -- record.id of the entry that tells of it
) STRICT;
CREATE UNIQUE INDEX revocation_certificate ON revocation (certificate);

-- The newest list of each shard, so that all replicas serve the same.
CREATE TABLE crl (
  issuer      TEXT NOT NULL,
  shard       INTEGER NOT NULL,
  allocated   INTEGER NOT NULL, -- the highest number that was given out
  number      INTEGER NOT NULL, -- of this list; 0 where none has been kept yet
  through     INTEGER NOT NULL, -- revocation.seq up to which it tells
  this_update INTEGER NOT NULL, -- Unix seconds
  next_update INTEGER NOT NULL,
  der         BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX crl_place ON crl (issuer, shard);

-- Under which addresses certificates have been told to look for lists.
CREATE TABLE status_url (
  url   TEXT NOT NULL,
  added INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX status_url_url ON status_url (url);
