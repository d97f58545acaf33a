package status

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// entry is one revoked certificate, as small as it can be: there may be a million.
type entry struct {
	serial [maxSerial - 1]byte // big-endian without leading zeros, then zeros
	length uint8               // of the serial number
	reason uint8
	at     uint32 // Unix seconds
	until  uint32 // when the certificate expires, Unix seconds
}

func newEntry(r *ca.Revocation) (entry, error) {
	serial, err := hex.DecodeString(r.Serial)
	e := entry{reason: uint8(r.Reason.Code()), at: uint32(r.At.Unix()), until: uint32(r.NotAfter.Unix())}
	if err != nil || len(serial) == 0 || len(serial) > len(e.serial) {
		return e, fmt.Errorf("%q is no serial number of a certificate", r.Serial)
	}
	e.length = uint8(copy(e.serial[:], serial))
	return e, nil
}

func (e *entry) number() []byte { return e.serial[:e.length] }

func (e *entry) standing() Standing {
	return Standing{Verdict: Revoked, At: time.Unix(int64(e.at), 0).UTC(), Reason: ca.ReasonOf(int(e.reason))}
}

func byNumber(a, b entry) int { return bytes.Compare(a.number(), b.number()) }

// shard is a part of what an issuer has revoked, with its list. It never changes: there is a new one instead.
type shard struct {
	entries []entry // in order of serial numbers
	newest  int64   // position of the newest revocation among them
	list    *List   // nil: none has been made yet
	etag    string  // of the list
	behind  bool    // entries are missing from the list, for it could not be made
}

// with is the shard with more entries, in any order.
func (s *shard) with(fresh []entry, newest int64) *shard {
	next := *s
	slices.SortFunc(fresh, byNumber)
	next.entries = make([]entry, 0, len(s.entries)+len(fresh))
	old := s.entries
	for _, e := range fresh {
		n, known := slices.BinarySearchFunc(old, e, byNumber)
		next.entries = append(next.entries, old[:n]...)
		if old = old[n:]; !known {
			next.entries = append(next.entries, e)
		}
	}
	next.entries = append(next.entries, old...)
	next.newest = max(next.newest, newest)
	return &next
}

// without is the shard without certificates that had expired when the list
// before this one was made: that one was the last that had to tell of them (RFC 5280, Section 3.3).
func (s *shard) without(now time.Time) *shard {
	if s.list == nil || s.behind {
		return s
	}
	last := min(s.list.ThisUpdate.Unix(), now.Unix()) // a clock that was ahead for a while must not lose any
	expired := func(e entry) bool { return int64(e.until) < last }
	if !slices.ContainsFunc(s.entries, expired) {
		return s
	}
	next := *s
	next.entries = slices.DeleteFunc(slices.Clone(s.entries), expired)
	return &next
}

// listed is the shard with another list.
func (s *shard) listed(l *List, etag string) *shard {
	next := *s
	next.list, next.etag, next.behind = l, etag, l.Through < s.newest
	return &next
}

// late is the shard after its list could not be made.
func (s *shard) late() *shard {
	next := *s
	next.behind = len(s.entries) > 0 && (s.list == nil || s.list.Through < s.newest)
	return &next
}

// find returns how a certificate is revoked.
func (s *shard) find(serial []byte) (Standing, bool) {
	var e entry
	if len(serial) > len(e.serial) {
		return Standing{}, false
	}
	e.length = uint8(copy(e.serial[:], serial))
	n, found := slices.BinarySearchFunc(s.entries, e, byNumber)
	if !found {
		return Standing{}, false
	}
	return s.entries[n].standing(), true
}

// servable reports whether the list may be given out: it is complete and its time is now.
func (s *shard) servable(now time.Time) bool {
	return s.list != nil && !s.behind && s.list.current(now)
}

// skew is how far the clocks of replicas may be apart.
const skew = 2 * time.Minute

func (l *List) current(now time.Time) bool {
	return now.Before(l.NextUpdate) && !l.ThisUpdate.After(now.Add(skew))
}

// encode writes the entries as a list has them.
func (s *shard) encode() ([]byte, error) {
	out := make([]byte, 0, len(s.entries)*48)
	for i := range s.entries {
		e := &s.entries[i]
		var err error
		if out, err = ca.AppendRevoked(out, e.number(), time.Unix(int64(e.at), 0), ca.ReasonOf(int(e.reason))); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// shardOf is the shard that a serial number belongs to, of n.
func shardOf(serial []byte, n int) int {
	if n == 1 {
		return 0
	}
	return ca.CRLShard(new(big.Int).SetBytes(serial), n)
}
