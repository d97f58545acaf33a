package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// The conditions of the partial indexes of the record, word for word as in the
// migration: a query that does not repeat one cannot use the index. Each costs
// nothing where the rest of the query says as much.
const (
	ofOthers    = "actor <> object" // what somebody did to something else than itself
	ofPeople    = "action <> 'certificate.issue' AND action <> 'certificate.renew' AND action <> 'device.attest' AND action <> 'attestation.certify'"
	notGranted  = "outcome <> 'granted'"
	deedGranted = ofPeople + " AND outcome = 'granted'"
)

// devicesOwn are the actions that devices ask: those that ofPeople leaves out.
var devicesOwn = [...]string{"certificate.issue", "certificate.renew", "device.attest", "attestation.certify"}

// CountDecisions returns how often actor did action since then, that time
// included, as far as it was allowed and is done; it counts no further than to
// most. It is meant for what people do: one index holds the answer, and a count up to a few
// thousand takes well under a millisecond. What devices ask is not counted: 0.
func (db *DB) CountDecisions(ctx context.Context, actor, action string, since time.Time, most int) (int, error) {
	if slices.Contains(devicesOwn[:], action) || most <= 0 {
		return 0, nil
	}
	var n int
	err := db.one(ctx, "SELECT count(*) FROM (SELECT 1 FROM record WHERE "+deedGranted+" AND actor = ? AND action = ? AND at >= ? LIMIT ?) deeds",
		[]any{actor, action, since.UnixMilli(), most}, "", &n)
	return n, err
}

// Entries returns the entries that the query selects, newest first.
//
// No index of the record goes by time, as an entry on each certificate's account
// would. Ids begin with the time, though, and the record grows in much the
// order of time: that bounds where in it a period can lie.
func (db *DB) Entries(ctx context.Context, q audit.Query) ([]audit.Entry, error) {
	w := where{}
	for _, c := range [...]struct{ condition, value string }{
		{"action = ?", q.Action}, {"object = ?", q.Object}, {"outcome = ?", string(q.Outcome)}} {
		if c.value != "" {
			w.and(c.condition, c.value)
		}
	}
	if q.Decided {
		w.and("decided = 1")
	}
	if q.Before > 0 {
		w.and("seq < ?", q.Before)
	}
	some, err := db.within(ctx, q.Since, q.Until, &w)
	if err != nil || !some {
		return nil, err
	}
	switch {
	case q.Actor != "":
		return db.entriesOf(ctx, q, w)
	case q.Object != "": // record_object serves best
	case q.Action != "" && !slices.Contains(devicesOwn[:], q.Action):
		w.and(ofPeople)
	case q.Outcome != "" && q.Outcome != audit.Granted:
		w.and(notGranted)
	}
	return db.newest(ctx, w, q.Limit)
}

// entriesOf are those of one actor: what it did to others, and what it did to itself, each
// by the index that holds it.
func (db *DB) entriesOf(ctx context.Context, q audit.Query, w where) ([]audit.Entry, error) {
	w.and("actor = ?", q.Actor)
	if q.Object != "" {
		return db.newest(ctx, w, q.Limit)
	}
	others, own := w.with(ofOthers), w.with("object = ? AND actor = object", q.Actor)
	found, err := db.newest(ctx, others, q.Limit)
	if err != nil {
		return nil, err
	}
	more, err := db.newest(ctx, own, q.Limit)
	found = append(found, more...)
	slices.SortFunc(found, func(a, b audit.Entry) int { return cmp.Compare(b.Position, a.Position) })
	return found[:min(len(found), limit(q.Limit))], err
}

func (db *DB) newest(ctx context.Context, w where, most int) ([]audit.Entry, error) {
	return db.entries(ctx, "SELECT seq, idx, leaf FROM record"+w.text()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit(most))...)
}

// How the order of the record differs from that of time: processes' clocks
// differ, calls at the same moment overtake each other, and what takes people long, such as
// an import, is committed long after it was asked.
const (
	apart    = 5 * time.Minute  // two clocks
	brief    = 2 * time.Minute  // a device's call, from the question to the commit
	longest  = 20 * time.Minute // a person's
	crossing = 64               // neighbours looked at
)

// within adds the condition of a period, and what follows from it for the
// places. It reports false where there is no such entry at all.
func (db *DB) within(ctx context.Context, since, until time.Time, w *where) (some bool, err error) {
	var first, last sql.NullInt64
	if !since.IsZero() {
		w.and("at >= ?", since.UnixMilli())
		err := db.one(ctx, "SELECT min(seq) FROM (SELECT seq FROM record WHERE id >= ? ORDER BY id LIMIT ?) near",
			[]any{idAt(since.Add(-apart)), crossing}, "", &first)
		if err != nil || !first.Valid {
			return false, err
		}
		w.and("seq >= ?", first.Int64)
	}
	if !until.IsZero() {
		w.and("at < ?", until.UnixMilli())
		// seq + 0: PostgreSQL would otherwise read all that is newer, looking for the greatest.
		err := db.one(ctx, "SELECT max(seq) FROM (SELECT max(seq + 0) AS seq FROM record WHERE id >= ? AND id < ?"+
			" UNION ALL SELECT max(seq + 0) FROM record WHERE "+ofPeople+" AND id >= ? AND id < ?"+
			" UNION ALL SELECT max(seq) FROM (SELECT seq FROM record WHERE id < ? ORDER BY id DESC LIMIT ?) near) places",
			[]any{idAt(until.Add(-brief)), idAt(until), idAt(until.Add(-longest)), idAt(until), idAt(until), crossing}, "", &last)
		if err != nil || !last.Valid {
			return false, err
		}
		w.and("seq <= ?", last.Int64)
	}
	return true, nil
}

// idAt is the least id of that time.
func idAt(at time.Time) []byte {
	var id audit.ID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16)
	return id[:]
}
