-- +goose Up

-- Finding decisions. A device that is granted what it asks for itself, which is nearly
-- all of the record, has no row in any of these. Queries repeat the conditions word for word.
-- An enrolment fails each at its first comparison; a list (NOT IN) would be built for every one.
CREATE INDEX record_outcome ON record (outcome, seq) WHERE outcome <> 'granted';
CREATE INDEX record_actor ON record (actor, seq) WHERE actor <> object;
CREATE INDEX record_action ON record (action, seq)
  WHERE action <> 'certificate.issue' AND action <> 'certificate.renew' AND action <> 'device.attest' AND action <> 'attestation.certify';
CREATE INDEX record_people ON record (id)
  WHERE action <> 'certificate.issue' AND action <> 'certificate.renew' AND action <> 'device.attest' AND action <> 'attestation.certify';
CREATE INDEX record_deed ON record (actor, action, at)
  WHERE action <> 'certificate.issue' AND action <> 'certificate.renew' AND action <> 'device.attest' AND action <> 'attestation.certify' AND outcome = 'granted';

-- How far the record has been sent to each sink, and who sends.
CREATE TABLE forwarding (
  sink   TEXT PRIMARY KEY,
  next   INTEGER NOT NULL, -- record.idx of the first entry that was not sent yet
  holder TEXT NOT NULL,    -- the process that sends, or empty
  until  INTEGER NOT NULL  -- and for how long, in milliseconds since 1970
) STRICT, WITHOUT ROWID;
