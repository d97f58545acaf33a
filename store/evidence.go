package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Evidence is kept by its digest, once: the event logs of one device are mostly
// the same from boot to boot. It is never deleted; the record names it.

// blob is a piece of evidence made ready to be written.
type blob struct {
	sha256 [32]byte
	kind   attest.BlobKind
	body   []byte // packed
}

const (
	insertBlob = "INSERT INTO evidence (sha256, kind, body) VALUES {(?, ?, ?)} ON CONFLICT (sha256) DO NOTHING"
	blobWidth  = 3
	// worthALook is the size in bytes from which it is cheaper to ask whether a blob is there than to write it again.
	worthALook = 4096
)

func compareBlobs(a, b blob) int { return bytes.Compare(a.sha256[:], b.sha256[:]) }

func sameBlob(a, b blob) bool { return a.sha256 == b.sha256 }

// newBlobs packs the blobs, all but large ones that are there already.
func (db *DB) newBlobs(ctx context.Context, blobs []attest.Blob) ([]blob, error) {
	ready := make([]blob, 0, len(blobs))
	for i := range blobs {
		b := &blobs[i]
		if b.SHA256 == [32]byte{} || b.Kind == "" {
			return nil, fmt.Errorf("evidence of %d bytes has no digest or no kind", len(b.Bytes))
		}
		if len(b.Bytes) >= worthALook {
			there, err := db.hasEvidence(ctx, b.SHA256)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		ready = append(ready, blob{sha256: b.SHA256, kind: b.Kind, body: packPlain(b.Bytes)})
	}
	return ready, nil
}

func (db *DB) hasEvidence(ctx context.Context, sha256 [32]byte) (bool, error) {
	if db.kept.has(sha256) {
		return true, nil
	}
	found := false
	err := db.each(ctx, "SELECT 1 FROM evidence WHERE sha256 = ?", []any{sha256[:]}, func(*sql.Rows) error {
		found = true
		return nil
	})
	if found {
		db.kept.add(sha256)
	}
	return found, err
}

// digests remembers some evidence that is there for good: devices of one model
// boot alike, and so the same few event logs come again and again.
type digests struct {
	mu    sync.Mutex
	known map[[32]byte]struct{}
}

// mostDigests bounds what is remembered.
const mostDigests = 1024

func (d *digests) has(sha256 [32]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.known[sha256]
	return known
}

func (d *digests) add(sha256 [32]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) == mostDigests {
		d.known = map[[32]byte]struct{}{}
	}
	d.known[sha256] = struct{}{}
}

// KeepEvidence writes blobs that are not there yet, durably before it returns.
func (db *DB) KeepEvidence(ctx context.Context, blobs []attest.Blob) error {
	ready, err := db.newBlobs(ctx, blobs)
	if err != nil || len(ready) == 0 {
		return err
	}
	return db.submit(ctx, &unit{blobs: ready})
}

// Evidence returns one piece, or an error of kind NotFound.
func (db *DB) Evidence(ctx context.Context, sha256 [32]byte) (attest.Blob, error) {
	found, b := false, attest.Blob{SHA256: sha256}
	err := db.each(ctx, "SELECT kind, body FROM evidence WHERE sha256 = ?", []any{sha256[:]}, func(r *sql.Rows) error {
		var body sql.RawBytes
		err := r.Scan(&b.Kind, &body)
		if err == nil {
			found = true
			b.Bytes, err = db.packer.unpack(body)
		}
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "evidence_unknown", "no evidence with this digest is kept")
	}
	if err != nil {
		return attest.Blob{}, err
	}
	return b, nil
}
