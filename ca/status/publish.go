package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
)

// whole is the number of the list of everything.
const whole = -1

// page is how many revocations are read at once.
const page = 5000

// load reads everything anew.
func (b *Board) load(ctx context.Context) (*view, error) {
	now := b.Now()
	lists, err := b.Shelf.Lists(ctx, b.name, nil)
	if err != nil {
		return nil, err
	}
	alive := now
	for _, l := range lists { // what it tells of may not have been told of once more after its end
		if l.ThisUpdate.Before(alive) {
			alive = l.ThisUpdate
		}
	}
	v := &view{shards: make([]*shard, max(1, b.Shards)), answers: newAnswers()}
	for i := range v.shards {
		v.shards[i] = new(shard)
	}
	if v, _, err = b.read(ctx, v, alive); err != nil {
		return nil, err
	}
	if v, _, err = b.catchUp(ctx, v); err != nil {
		return nil, err
	}
	for _, l := range lists {
		if i := b.index(l.Shard); i >= 0 && b.fits(&l, v.shards[i], v.through, now) {
			v.shards[i] = v.shards[i].listed(&l, etagOf(l.DER))
		}
	}
	return v, nil
}

// catchUp reads what was revoked since the view, of whatever has expired since, too.
func (b *Board) catchUp(ctx context.Context, v *view) (*view, time.Time, error) {
	return b.read(ctx, v, time.Unix(0, 0))
}

// read is the view with what was revoked since, and when the oldest of that was.
func (b *Board) read(ctx context.Context, v *view, alive time.Time) (*view, time.Time, error) {
	var oldest time.Time
	for {
		fresh, err := b.Ledger.Revocations(ctx, v.through, alive, page)
		if err != nil || len(fresh) == 0 {
			return v, oldest, err
		}
		if v, err = b.take(v, fresh); err != nil {
			return v, oldest, err
		}
		if at := madeAt(fresh[0].Record); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
		if len(fresh) < page {
			return v, oldest, nil
		}
	}
}

// madeAt is the time that an id was made at, which is finer than seconds.
func madeAt(id audit.ID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

// take is the view with these revocations.
func (b *Board) take(v *view, fresh []ca.Revocation) (*view, error) {
	next := &view{through: v.through, shards: append([]*shard(nil), v.shards...), answers: newAnswers()}
	more, newest := map[int][]entry{}, map[int]int64{}
	for i := range fresh {
		r := &fresh[i]
		next.through = max(next.through, r.Position)
		if r.Issuer != b.name {
			continue // another authority's, from before this one was put in
		}
		e, err := newEntry(r)
		if err != nil {
			return nil, err
		}
		n := shardOf(e.number(), len(v.shards))
		more[n], newest[n] = append(more[n], e), max(newest[n], r.Position)
	}
	for n, entries := range more {
		next.shards[n] = v.shards[n].with(entries, newest[n])
	}
	return next, nil
}

// index is where the shard of that number stands; -1 for one that there is not.
func (b *Board) index(number int) int {
	switch {
	case b.Shards == 0 && number == whole:
		return 0
	case b.Shards == 0 || number < 0 || number >= b.Shards:
		return -1
	}
	return number
}

// number is what the shard at that place is called.
func (b *Board) number(index int) int {
	if b.Shards == 0 {
		return whole
	}
	return index
}

// urls are those that certificates of a shard name, or may.
func (b *Board) urls(index int) []string {
	if b.Shards == 0 {
		return nil
	}
	urls := make([]string, len(b.URLs))
	for i, base := range b.URLs {
		urls[i] = base + ListPath + b.name + "/" + strconv.Itoa(index) + listSuffix
	}
	return urls
}

// due are the places of the shards that need another list: those that tell of
// something. The others are made when somebody asks.
func (b *Board) due(v *view, now time.Time) []int {
	var due []int
	for i, s := range v.shards {
		if len(s.entries) > 0 && (s.list == nil || s.list.Through < s.newest || b.half(s.list, now)) {
			due = append(due, i)
		}
	}
	return due
}

// half reports whether half of a list's time is over, or it has none.
func (b *Board) half(l *List, now time.Time) bool {
	return !l.current(now) || now.After(l.ThisUpdate.Add(l.NextUpdate.Sub(l.ThisUpdate)/2+b.jitter))
}

// fits reports whether a kept list can be served as that of a shard: its time
// is now, it lacks nothing that is known and has nothing that is not, and names all URLs.
func (b *Board) fits(l *List, s *shard, through int64, now time.Time) bool {
	if l.Through < s.newest || l.Through > through || !l.current(now) {
		return false
	}
	for _, url := range b.urls(b.index(l.Shard)) {
		if !bytes.Contains(l.DER, []byte(url)) {
			return false
		}
	}
	return true
}

// publish makes the view the one that counts, after the lists at these places
// have been made or, where another replica was first, taken from the shelf. If that
// fails it counts all the same: OCSP tells the truth, and lists that lack it are not served.
func (b *Board) publish(ctx context.Context, v *view, places []int, oldest time.Time) error {
	if len(places) == 0 {
		b.view.Store(v)
		return nil
	}
	next := &view{through: v.through, shards: append([]*shard(nil), v.shards...), answers: v.answers}
	made, err := b.renew(ctx, next, places)
	if err != nil {
		for _, i := range places {
			next.shards[i] = next.shards[i].late()
		}
	}
	b.view.Store(next)
	if b.Published != nil {
		lag := time.Duration(0)
		if !oldest.IsZero() {
			lag = b.Now().Sub(oldest)
		}
		b.Published(made, lag, err)
	}
	return err
}

// renew puts fresh lists at these places of a view that nobody sees yet.
func (b *Board) renew(ctx context.Context, v *view, places []int) (made int, err error) {
	rest, err := b.adopt(ctx, v, places)
	if err != nil || len(rest) == 0 {
		return 0, err
	}
	numbers := make([]int, len(rest))
	for i, place := range rest {
		numbers[i] = b.number(place)
	}
	given, err := b.Shelf.Numbers(ctx, b.name, numbers)
	if err != nil {
		return 0, err
	}
	lists := make([]List, len(rest))
	for i, place := range rest {
		v.shards[place] = v.shards[place].without(b.Now())
		if lists[i], err = b.make(v, place, given[i]); err != nil {
			return 0, err
		}
	}
	if err := b.Shelf.KeepLists(ctx, lists); err != nil {
		return 0, err
	}
	for i, place := range rest {
		v.shards[place] = v.shards[place].listed(&lists[i], etagOf(lists[i].DER))
	}
	_, err = b.adopt(ctx, v, rest) // if somebody else was first after all, theirs is served everywhere
	return len(rest), err
}

// adopt takes what fits from the shelf, and returns the places for which nothing did.
func (b *Board) adopt(ctx context.Context, v *view, places []int) (rest []int, err error) {
	numbers := make([]int, len(places))
	for i, place := range places {
		numbers[i] = b.number(place)
	}
	kept, err := b.Shelf.Lists(ctx, b.name, numbers)
	if err != nil {
		return nil, err
	}
	found := map[int]*List{}
	for i := range kept {
		found[b.index(kept[i].Shard)] = &kept[i]
	}
	for _, place := range places {
		l := found[place]
		if l == nil || !b.fits(l, v.shards[place], v.through, b.Now()) || b.half(l, b.Now()) {
			rest = append(rest, place)
			continue
		}
		v.shards[place] = v.shards[place].listed(l, etagOf(l.DER))
	}
	return rest, nil
}

// make makes a list.
func (b *Board) make(v *view, place int, number int64) (List, error) {
	now := b.Now().UTC().Truncate(time.Second)
	l := List{Issuer: b.name, Shard: b.number(place), Number: number, Through: v.through, ThisUpdate: now, NextUpdate: now.Add(b.ListLife)}
	entries, err := v.shards[place].encode()
	if err != nil {
		return l, err
	}
	l.DER, err = b.Issuer.RevocationList(&ca.RevocationList{
		Number: big.NewInt(number), ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate, URLs: b.urls(place), Entries: entries,
	})
	return l, err
}

// etagOf is the entity tag of a list (RFC 9110, Section 8.8.3).
func etagOf(der []byte) string {
	sum := sha256.Sum256(der)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// ask makes the list at a place, for somebody who asks for it and finds none
// that may be served or is young enough.
func (b *Board) ask(ctx context.Context, place int) *shard {
	now := b.Now()
	s := b.view.Load().shards[place]
	if s.servable(now) && (len(s.entries) > 0 || !b.half(s.list, now)) {
		return s
	}
	b.turn.Lock()
	recently := now.Sub(b.tried).Abs() < time.Second // nobody has it tried again with each request
	v := b.view.Load()
	s = v.shards[place]
	var err error
	if !recently && !(s.servable(now) && !b.half(s.list, now)) {
		if err = b.publish(context.WithoutCancel(ctx), v, []int{place}, time.Time{}); err != nil {
			b.tried = now
		}
	}
	b.turn.Unlock()
	if err != nil {
		b.settle(err)
	}
	return b.view.Load().shards[place]
}
