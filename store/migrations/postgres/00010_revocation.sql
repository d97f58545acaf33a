-- +goose Up

-- A row per certificate that counts no more. Rows are committed in the order of seq, and none is deleted.
CREATE TABLE revocation (
  seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  certificate BIGINT NOT NULL, -- certificate.seq
  issuer      TEXT COLLATE "C" NOT NULL,    -- by the name that its lists go by
  not_after   BIGINT NOT NULL, -- the certificate's, Unix seconds
  at          BIGINT NOT NULL, -- Unix seconds
  reason      BIGINT NOT NULL, -- the number of RFC 5280, Section 5.3.1
  bars        BIGINT NOT NULL, -- 1 where no certificate over its key is issued again
  by          TEXT NOT NULL,
  record      BYTEA NOT NULL     -- record.id of the entry that tells of it
);
CREATE UNIQUE INDEX revocation_certificate ON revocation (certificate);

-- The newest list of each shard, so that all replicas serve the same.
CREATE TABLE crl (
  issuer      TEXT COLLATE "C" NOT NULL,
  shard       BIGINT NOT NULL,
  allocated   BIGINT NOT NULL, -- the highest number that was given out
  number      BIGINT NOT NULL, -- of this list; 0 where none has been kept yet
  through     BIGINT NOT NULL, -- revocation.seq up to which it tells
  this_update BIGINT NOT NULL, -- Unix seconds
  next_update BIGINT NOT NULL,
  der         BYTEA NOT NULL
);
CREATE UNIQUE INDEX crl_place ON crl (issuer, shard);

-- Under which addresses certificates have been told to look for lists.
CREATE TABLE status_url (
  url   TEXT COLLATE "C" NOT NULL,
  added BIGINT NOT NULL
);
CREATE UNIQUE INDEX status_url_url ON status_url (url);
