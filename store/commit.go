package store

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// Group commit. Making a transaction durable costs a trip to the disk, however
// much is in it. So calls that write at the same moment share one: each puts a
// unit in the queue and waits; the committer takes whatever waits, settles it
// in one transaction, and wakes each caller with its own result. A lone call is
// committed at once. Under load, when calls come several to a transaction
// anyway, the committer gives them a moment more to come together: a
// transaction costs the processor as much as several of the calls in it.
//
// A unit is refused before it has written anything, so a refusal costs its
// neighbours nothing. When the transaction itself fails, every unit of it is
// tried again alone, so that one that cannot be written fails alone.

// largestBatch bounds a transaction, and so how long a caller can wait for others.
const largestBatch = 128

// unit is one caller's share of a transaction.
type unit struct {
	issuance *issuance  // a certificate; nil: none
	proof    *proof     // evidence that was accepted; nil: none
	ward     *ward      // a device to be quarantined; nil: none
	spend    *spend     // a nonce; nil: none
	sweep    *stretch   // a part of the spent nonces to be swept; nil: none
	blobs    []blob     // evidence to keep that comes with no proof
	entry    entry      // of the record; without an id: none
	refusal  error      // why nothing of this unit is written; set by settle
	result   chan error // takes one value
}

// Append makes the event durable before it returns.
func (db *DB) Append(ctx context.Context, e audit.Event) error {
	if e.Approval != "" {
		return db.change(ctx, &e, func(context.Context, *session) error { return nil })
	}
	entry, err := db.newEntry(&e)
	if err != nil {
		return err
	}
	return db.submit(ctx, &unit{entry: entry})
}

// submit queues the unit and returns its result. The context is heeded until
// the committer takes the unit; from then on the result is waited for, since
// giving up would leave the caller not knowing it.
func (db *DB) submit(ctx context.Context, u *unit) error {
	u.result = make(chan error, 1)
	select {
	case db.queue <- u:
		return <-u.result
	case <-ctx.Done():
		return db.classify(ctx.Err())
	case <-db.closing:
		return errClosed
	}
}

// When the last transaction carried crowd calls, the next waits up to
// patience for more: a few milliseconds of the many that a call takes then.
const (
	crowd    = 4
	patience = 4 * time.Millisecond
)

func (db *DB) commitLoop() {
	batch := make([]*unit, 0, largestBatch)
	quiet := time.NewTimer(idle)
	dirty := true // the write-ahead log may hold something
	for {
		select {
		case <-db.closing:
			return
		case <-quiet.C:
			if dirty && db.sequencer == db.committer { // embedded
				db.committer.fold()
			}
			dirty = false
		case u := <-db.queue:
			crowded := len(batch) >= crowd
			clear(batch)
			batch = append(batch[:0], u)
			if crowded {
				batch = db.await(batch)
			}
			<-db.committer.turn
			runtime.Gosched() // lets callers that are ready to run reach the queue: fewer, fuller transactions
			batch = db.gather(batch)
			db.commit(batch)
			db.committer.turn <- struct{}{}
			db.folder.committed(len(batch))
			dirty = true
			quiet.Reset(idle)
		}
	}
}

// await adds to the batch what comes while patience lasts.
func (db *DB) await(batch []*unit) []*unit {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for len(batch) < largestBatch {
		select {
		case u := <-db.queue:
			batch = append(batch, u)
		case <-enough.C:
			return batch
		case <-db.closing:
			return batch
		}
	}
	return batch
}

// gather adds to the batch whatever waits in the queue.
func (db *DB) gather(batch []*unit) []*unit {
	for len(batch) < largestBatch {
		select {
		case u := <-db.queue:
			batch = append(batch, u)
		default:
			return batch
		}
	}
	return batch
}

// commit settles the batch and wakes its callers.
func (db *DB) commit(batch []*unit) {
	start := time.Now()
	for _, u := range batch {
		u.pack(db.packer)
	}
	err := db.settleAll(batch)
	if db.observe != nil {
		db.observe(len(batch), time.Since(start))
	}
	for _, u := range batch {
		switch {
		case err == nil:
			u.result <- u.refusal
		default:
			u.result <- db.classify(db.settleAlone(u, err, len(batch) == 1))
		}
	}
}

// pack makes what the unit is about to write as small as it is kept. Packing wants
// 64 KiB of stack, which the committer's goroutine has anyway and each caller's would have to get.
func (u *unit) pack(p *packer) {
	if u.entry.id != nil {
		u.entry.pack(p)
	}
	if i := u.issuance; i != nil {
		i.der = p.packCertificate(i.Certificate.DER)
	}
}

func (db *DB) settleAll(batch []*unit) error {
	return db.committer.transact(func(tx *session) error { return settle(tx, batch) })
}

// settleAlone tries a unit again in a transaction of its own after the
// transaction it was in failed with cause. One that was alone there is only
// tried again where that can help.
func (db *DB) settleAlone(u *unit, cause error, wasAlone bool) error {
	for range 3 {
		// device_id: another process admitted the same stranger first; now the register knows it.
		if t := db.engine.trouble(cause); wasAlone && !t.busy && !t.lost && t.unique != "device_id" {
			break
		}
		inDoubt := errors.As(cause, new(errCommit))
		if inDoubt && u.spend != nil {
			break // tried again, a nonce that we have spent would look like one that somebody else has
		}
		err := db.committer.transact(func(tx *session) error {
			if inDoubt && u.entry.id != nil { // the connection broke on COMMIT: it may have been done all the same
				done, err := tx.hasEntry(u.entry.id)
				if done || err != nil {
					u.refusal = nil
					return err
				}
			}
			return settle(tx, []*unit{u})
		})
		if err == nil {
			return u.refusal
		}
		cause, wasAlone = err, true
	}
	return cause
}

// settle decides about each unit of the batch and writes those it does not refuse.
func settle(tx *session, batch []*unit) error {
	ctx := context.Background()
	d := newDesk(tx, batch)
	if err := d.read(ctx); err != nil {
		return err
	}
	for _, u := range batch {
		u.refusal = nil
		u.refusal = d.decide(u)
	}
	if err := d.write(ctx); err != nil {
		return err
	}
	entries := make([]any, 0, len(batch)*entryWidth)
	for _, u := range batch {
		if u.refusal == nil && u.entry.id != nil {
			entries = u.entry.values(entries)
		}
	}
	return tx.insert(ctx, insertEntry, entryWidth, entries)
}
