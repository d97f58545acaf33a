package store

import (
	"context"
	"database/sql"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// entry is an event made ready to be written.
type entry struct {
	id                             []byte
	at                             int64
	action, actor, object, outcome string
	decided                        int
	plain                          []byte // the leaf as it is hashed
	leaf                           []byte // packed; nil until pack
}

const (
	insertEntry = "INSERT" + orFail + " INTO record (id, at, action, actor, object, outcome, decided, leaf) VALUES {(?, ?, ?, ?, ?, ?, ?, ?)}"
	entryWidth  = 8
)

func (db *DB) newEntry(e *audit.Event) (entry, error) {
	leaf, err := e.Leaf()
	if err != nil {
		return entry{}, err
	}
	n := entry{id: e.ID[:], at: e.At.UnixMilli(), action: e.Action, actor: e.Actor.ID, object: e.Object.ID,
		outcome: string(e.Outcome), plain: leaf}
	if len(e.Decision) > 0 {
		n.decided = 1
	}
	return n, nil
}

// pack makes the entry as small as it is kept.
func (e *entry) pack(p *packer) { e.plain, e.leaf = nil, p.packLeaf(e.plain) }

func (e *entry) values(to []any) []any {
	return append(to, e.id, e.at, e.action, e.actor, e.object, e.outcome, e.decided, e.leaf)
}

// record writes the event in the transaction of the fact it tells of.
func (s *session) record(ctx context.Context, e *audit.Event) error {
	n, err := s.db.newEntry(e)
	if err != nil {
		return err
	}
	n.pack(s.db.packer)
	if err := s.useUp(ctx, e.Approval, n.at); err != nil {
		return err
	}
	return s.insert(ctx, insertEntry, entryWidth, n.values(nil))
}

func (s *session) hasEntry(id []byte) (bool, error) {
	found := false
	err := s.each(context.Background(), "SELECT 1 FROM record WHERE id = ?", []any{id}, func(*sql.Rows) error {
		found = true
		return nil
	})
	return found, err
}

const selectEntry = "SELECT r.seq, r.idx, r.leaf FROM record r"

// Entry returns the entry with that id, or an error of kind NotFound.
func (db *DB) Entry(ctx context.Context, id audit.ID) (audit.Entry, error) {
	found, err := db.entries(ctx, selectEntry+" WHERE r.id = ?", id[:])
	return only(found, err, "the record holds no entry with this id")
}

// EntryBySerial returns the entry that tells of the issuing of a certificate,
// or an error of kind NotFound. serial is hex without separators.
func (db *DB) EntryBySerial(ctx context.Context, serial string) (audit.Entry, error) {
	number, err := parseSerial(serial)
	if err != nil {
		return only(nil, nil, "no certificate has this serial number")
	}
	found, err := db.entries(ctx, selectEntry+" WHERE r.id = (SELECT record FROM certificate WHERE serial = ?)", number)
	return only(found, err, "no certificate has this serial number")
}

func only(found []audit.Entry, err error, missing string) (audit.Entry, error) {
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "not_found", missing)
	}
	if err != nil {
		return audit.Entry{}, err
	}
	return found[0], nil
}

func (db *DB) entries(ctx context.Context, query string, args ...any) ([]audit.Entry, error) {
	var found []audit.Entry
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var e audit.Entry
		var index sql.NullInt64
		var leaf sql.RawBytes
		err := r.Scan(&e.Position, &index, &leaf)
		if err != nil {
			return err
		}
		if e.Index = -1; index.Valid {
			e.Index = index.Int64
		}
		e.Leaf, err = db.packer.unpack(leaf)
		found = append(found, e)
		return err
	})
	return found, err
}
