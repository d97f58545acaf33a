package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

func testJournal(t *testing.T, place Place) {
	db := place(t)
	event := Event("certificate.issue", "d1")
	event.Outcome = audit.Refused
	do(t, db.Append(t.Context(), event))
	wantRecorded(t, db, event, true)
	want(t, db.Append(t.Context(), event), fault.Conflict, "record_exists")
	if db.Append(t.Context(), audit.Event{}) == nil {
		t.Fatal("an incomplete event was taken")
	}
	_, err := db.Entry(t.Context(), audit.ID{1})
	want(t, err, fault.NotFound, "")

	// However large or odd a leaf is, it comes back as it was.
	for _, fact := range []string{"", string(bytes.Repeat([]byte("x"), 40_000)), "\x00\u2028ü"} {
		event := Event("certificate.issue", "d1")
		event.Fact = audit.AppendCanonical(nil, fact)
		do(t, db.Append(t.Context(), event))
		wantRecorded(t, db, event, true)
	}
}

func testEntries(t *testing.T, place Place) {
	db := place(t)
	for n := range 30 {
		e := Event([]string{"token.create", "device.import", "certificate.issue"}[n%3], fmt.Sprintf("d%d", n%2))
		e.At = Now.Add(time.Duration(n) * time.Minute)
		e.ID = audit.NewID(e.At)
		e.Actor.ID = fmt.Sprintf("user%d", n%5)
		if n%10 == 0 {
			e.Outcome, e.Decision = audit.Refused, json.RawMessage(`{}`)
		}
		do(t, db.Append(t.Context(), e))
	}
	for _, c := range []struct {
		query audit.Query
		n     int
	}{
		{audit.Query{}, 30}, {audit.Query{Action: "token.create"}, 10}, {audit.Query{Actor: "user3"}, 6}, {audit.Query{Object: "d1"}, 15},
		{audit.Query{Outcome: audit.Refused}, 3}, {audit.Query{Decided: true}, 3}, {audit.Query{Limit: 4}, 4},
		{audit.Query{Since: Now.Add(10 * time.Minute)}, 20}, {audit.Query{Until: Now.Add(10 * time.Minute)}, 10},
		{audit.Query{Since: Now.Add(time.Minute), Until: Now.Add(3 * time.Minute), Object: "d1"}, 1},
		{audit.Query{Action: "token.create", Actor: "user3", Object: "d1", Outcome: audit.Granted}, 1},
		{audit.Query{Object: "' OR 1=1 --"}, 0},
	} {
		found, err := db.Entries(t.Context(), c.query)
		do(t, err)
		if len(found) != c.n {
			t.Errorf("%+v: %d entries, want %d", c.query, len(found), c.n)
		}
		for i := 1; i < len(found); i++ {
			if found[i].Position >= found[i-1].Position {
				t.Errorf("%+v: not newest first", c.query)
			}
		}
	}
	all := everything(t, db)
	var paged []audit.Entry
	q := audit.Query{Limit: 7}
	for {
		page, err := db.Entries(t.Context(), q)
		do(t, err)
		paged = append(paged, page...)
		if len(page) < 7 {
			break
		}
		q.Before = page[6].Position
	}
	slices.Reverse(paged)
	same(t, "paged", paged, all)
}

// plant is a grow function that keeps the leaves in tiles of a sort, so that
// the test can tell what was sequenced without any hashing.
type plant struct {
	db   *store.DB
	busy chan struct{} // holds a token while nobody is inside grow
	t    testing.TB
}

func (p *plant) grow(leaves [][]byte) (audit.Growth, error) {
	select {
	case <-p.busy:
	default:
		return audit.Growth{}, errors.New("two are inside grow at a time")
	}
	defer func() { p.busy <- struct{}{} }()
	note, err := p.db.Checkpoint(context.Background())
	if err != nil {
		return audit.Growth{}, err
	}
	var size int64
	if note != nil {
		fmt.Sscan(string(note), &size)
	}
	tile, err := p.db.Tile(context.Background(), 0, 0)
	if err != nil {
		return audit.Growth{}, err
	}
	if int64(len(tile)) != min(size*32, 8192) {
		return audit.Growth{}, fmt.Errorf("tile of %d bytes at size %d", len(tile), size)
	}
	for range leaves {
		if len(tile) < 8192 {
			tile = append(tile, bytes.Repeat([]byte{1}, 32)...)
		}
	}
	return audit.Growth{First: size, Tiles: []audit.Tile{{Level: 0, Index: 0, Hashes: tile}, {Level: 1, Index: 0, Hashes: tile[:32]}},
		Checkpoint: fmt.Appendf(nil, "%d", size+int64(len(leaves)))}, nil
}

func newPlant(t testing.TB, db *store.DB) *plant {
	p := &plant{db: db, busy: make(chan struct{}, 1), t: t}
	p.busy <- struct{}{}
	return p
}

func testSequence(t *testing.T, place Place) {
	db := place(t)
	note, err := db.Checkpoint(t.Context())
	do(t, err)
	tile, err := db.Tile(t.Context(), 0, 0)
	do(t, err)
	if note != nil || len(tile) != 0 {
		t.Fatal("an empty log has a checkpoint or a tile")
	}
	n, err := db.Sequence(t.Context(), 10, func([][]byte) (audit.Growth, error) { panic("nothing is pending") })
	do(t, err)
	same(t, "of nothing", n, 0)

	var leaves []string
	for range 25 {
		e := Event("certificate.issue", "d1")
		do(t, db.Append(t.Context(), e))
		leaf, _ := e.Leaf()
		leaves = append(leaves, string(leaf))
	}
	p := newPlant(t, db)
	for _, step := range []int{10, 10, 5, 0} {
		n, err := db.Sequence(t.Context(), 10, p.grow)
		do(t, err)
		same(t, "step", n, step)
	}
	note, err = db.Checkpoint(t.Context())
	do(t, err)
	same(t, "checkpoint", string(note), "25")
	tile, err = db.Tile(t.Context(), 0, 0)
	do(t, err)
	same(t, "tile", len(tile), 25*32)
	got, err := db.Leaves(t.Context(), 20, 100)
	do(t, err)
	same(t, "leaves", fmt.Sprintf("%s", got), fmt.Sprintf("%s", leaves[20:]))
	for i, e := range everything(t, db) {
		same(t, "index", e.Index, int64(i))
	}

	// Nothing is kept of a step that fails.
	do(t, db.Append(t.Context(), Event("certificate.issue", "d1")))
	cause := errors.New("no")
	for _, grow := range []func([][]byte) (audit.Growth, error){
		func([][]byte) (audit.Growth, error) { return audit.Growth{}, cause },
		func([][]byte) (audit.Growth, error) { return audit.Growth{First: 24, Checkpoint: []byte("x")}, nil },
		func([][]byte) (audit.Growth, error) { return audit.Growth{First: 26, Checkpoint: []byte("x")}, nil },
		func([][]byte) (audit.Growth, error) { return audit.Growth{First: 25}, nil },
	} {
		n, err := db.Sequence(t.Context(), 10, grow)
		if err == nil || n != 0 {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	note, err = db.Checkpoint(t.Context())
	do(t, err)
	same(t, "checkpoint after failures", string(note), "25")
	n, err = db.Sequence(t.Context(), 10, p.grow)
	do(t, err)
	same(t, "step after failures", n, 1)
}

// testSequenceRace: two sequencers beside four that append and issue: no gap, no duplicate, nothing left out.
func testSequenceRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	ids := register(t, handles[0], 4)
	p := newPlant(t, handles[0])
	var writers, sequencers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for k := range 40 {
				err := handles[n%2].Append(context.Background(), Event("certificate.issue", "d1"))
				if k%8 == 0 {
					err = errors.Join(err, handles[n%2].Issue(context.Background(), Issuance(t, ids[n], Key(t))))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	for _, db := range handles {
		sequencers.Go(func() {
			for {
				n, err := db.Sequence(context.Background(), 20, p.grow)
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					if n == 0 {
						return
					}
				default:
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	sequencers.Wait()
	all := everything(t, handles[1])
	same(t, "entries", len(all), 1+4*45)
	slices.SortFunc(all, func(a, b audit.Entry) int { return int(a.Index - b.Index) })
	leaves, err := handles[1].Leaves(t.Context(), 0, len(all))
	do(t, err)
	for i, e := range all {
		if e.Index != int64(i) || !bytes.Equal(leaves[i], e.Leaf) {
			t.Fatalf("entry %d has index %d", i, e.Index)
		}
	}
}

func testReopen(t *testing.T, place Place) {
	db := place(t)
	id := register(t, db, 1)[0]
	i := issue(t, db, id)
	token := newToken(t, db, 2)
	_, err := db.Sequence(t.Context(), 100, newPlant(t, db).grow)
	do(t, err)
	before := everything(t, db)
	do(t, db.Close())
	do(t, db.Close()) // twice is once
	want(t, db.Append(t.Context(), Event("a.b", "")), fault.Busy, "")
	want(t, db.CreateToken(t.Context(), token, Event("a.b", "")), fault.Busy, "")

	db = place(t)
	same(t, "record", everything(t, db), before)
	c, err := db.Certificate(t.Context(), i.Certificate.Serial)
	do(t, err)
	same(t, "certificate", bare(c), *i.Certificate)
	found, _, err := db.TokenByHash(t.Context(), token.Hash, "")
	do(t, err)
	same(t, "token", found, token)
	note, err := db.Checkpoint(t.Context())
	do(t, err)
	same(t, "checkpoint", string(note), fmt.Sprint(len(before)))
}

// testCloseInTheMiddle: what was acknowledged before the database was closed is there afterwards.
func testCloseInTheMiddle(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 8)
	var kept sync.Map
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			for {
				i := Issuance(t, id, Key(t))
				err := db.Issue(context.Background(), i)
				kept.Store(i.Certificate.Serial, err == nil)
				if err != nil {
					if !fault.Is(err, fault.Busy) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	do(t, db.Close())
	wg.Wait()
	db = place(t)
	n := 0
	kept.Range(func(serial, acknowledged any) bool {
		_, err := db.Certificate(t.Context(), serial.(string))
		if (err == nil) != acknowledged.(bool) {
			t.Errorf("certificate %s: acknowledged is %v, but %v", serial, acknowledged, err)
		}
		if err == nil {
			_, err = db.EntryBySerial(t.Context(), serial.(string))
			do(t, err)
			n++
		}
		return true
	})
	if n == 0 {
		t.Fatal("nothing was issued")
	}
	found, err := db.Certificates(t.Context(), ca.Filter{Limit: 1e6})
	do(t, err)
	same(t, "certificates", len(found), n)
}

func testPing(t *testing.T, place Place) {
	db := place(t)
	for range 3 {
		do(t, db.Ping(t.Context()))
	}
	same(t, "entries", len(everything(t, db)), 0)
	do(t, db.Close())
	want(t, db.Ping(t.Context()), fault.Busy, "")
}

// testOpenRace: several processes that find an empty database make it once.
func testOpenRace(t *testing.T, place Place) {
	handles := make([]*store.DB, 4)
	together(len(handles), func(n int) error {
		handles[n] = place(t)
		return nil
	})
	for n, db := range handles {
		_, err := db.ChangeDevices(t.Context(), fleet.Change{Import: []fleet.Line{{Number: n, Device: fleet.Device{ID: fmt.Sprint(n)}}}, At: Now, EventWith: importEvent})
		do(t, err)
	}
	same(t, "entries", len(everything(t, handles[0])), len(handles))
}
