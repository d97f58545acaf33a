// Package audit is the record: an append-only Merkle tree over everything
// that happened, granted or refused, provable offline.
//
// An Event is written in the same transaction as the fact it tells. The
// Log (one sequencer at a time, whoever holds the database's lock) gives each
// event its index in an RFC 6962 tree and signs a checkpoint over it about
// once a second. Exports carry what a stranger needs to check them with the
// log's public key alone.
package audit

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// ID names one event, and the decision inside it where there is one. The
// first 48 bits are the time in milliseconds since 1970, big-endian, so that
// ids sort by age; the other 80 are random.
type ID [16]byte

// NewID returns a fresh ID for the time given.
func NewID(at time.Time) ID {
	var id ID
	rand.Read(id[6:]) // never fails: crypto/rand aborts the process instead
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// idText is base32hex in lower case: 26 characters that sort like the bytes.
var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// String returns the id's 26 characters.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	raw, err := idText.DecodeString(s)
	if err != nil || len(raw) != len(id) || idText.EncodeToString(raw) != s {
		return id, errors.New("not a record id: want 26 characters 0-9 a-v")
	}
	copy(id[:], raw)
	return id, nil
}

// Outcome says how an event ended.
type Outcome string

// The outcomes.
const (
	Granted Outcome = "granted" // asked, allowed and done
	Refused Outcome = "refused" // asked and not allowed
	Held    Outcome = "held"    // asked and waiting for a person
	Done    Outcome = "done"    // the server's own doing, nobody asked
)

// Party is somebody who acts or something that is acted upon.
type Party struct {
	Type string `json:"type"` // device, user, service, certificate, token, anchor, request, policy, record …
	ID   string `json:"id"`
}

// Event is one thing that happened. Its zero Outcome is invalid and refused by Leaf.
type Event struct {
	ID       ID        // NewID of At: the time in it finds the entries of a period
	At       time.Time // kept to the millisecond, UTC
	Action   string    // noun.verb, such as certificate.issue
	Actor    Party
	Object   Party
	Outcome  Outcome
	Source   string          // IP address the request came from; empty for the server's own doing
	Request  string          // request id that finds the log lines
	Decision json.RawMessage // canonical JSON written by package policy; nil where no policy was asked
	Fact     json.RawMessage // canonical JSON of what changed, such as the certificate's serial; nil when nothing did

	// Approval is the id of a held request that this uses up, in the same transaction; empty: none.
	// It is no part of the leaf.
	Approval string
}

// TimeFormat is how leaves write a time: RFC 3339, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// MaxLeaf is the most bytes of a leaf: what the length prefix of an entry
// bundle can say (C2SP tlog-tiles, Log entries).
const MaxLeaf = 65535

// Leaf returns the event as it stands in the tree: canonical JSON (RFC 8785)
// on one line, at most MaxLeaf bytes. It refuses an event that lacks who, what,
// when or how it ended, and a decision or fact that is not canonical: what an
// auditor's check would reject must not get into the tree.
func (e *Event) Leaf() ([]byte, error) {
	if e.ID == (ID{}) || e.At.IsZero() || e.Action == "" || e.Actor.Type == "" || e.Object.Type == "" || e.Outcome == "" {
		return nil, errors.New("incomplete event: id, time, action, actor, object and outcome are required")
	}
	if y := e.At.UTC().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("incomplete event: no time stamp has the year %d", y)
	}
	if err := e.checkDocuments(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 512+len(e.Decision)+len(e.Fact))
	b = append(b, `{"action":`...)
	b = AppendCanonical(b, e.Action)
	b = append(b, `,"actor":`...)
	b = e.Actor.append(b)
	b = append(b, `,"at":"`...)
	b = e.At.UTC().AppendFormat(b, TimeFormat)
	b = append(b, '"')
	if len(e.Decision) > 0 {
		b = append(append(b, `,"decision":`...), e.Decision...)
	}
	if len(e.Fact) > 0 {
		b = append(append(b, `,"fact":`...), e.Fact...)
	}
	b = append(b, `,"id":"`...)
	b = idText.AppendEncode(b, e.ID[:])
	b = append(b, `","object":`...)
	b = e.Object.append(b)
	b = append(b, `,"outcome":`...)
	b = AppendCanonical(b, string(e.Outcome))
	if e.Request != "" {
		b = AppendCanonical(append(b, `,"request":`...), e.Request)
	}
	if e.Source != "" {
		b = AppendCanonical(append(b, `,"source":`...), e.Source)
	}
	b = append(b, `,"v":1}`...)
	if len(b) > MaxLeaf {
		return nil, fault.Wrap(fault.Malformed, "record_too_large", "what was asked is too large to be recorded",
			fmt.Errorf("event %s has %d bytes, at most %d fit", e.ID, len(b), MaxLeaf))
	}
	return b, nil
}

// checkDocuments makes sure that the parts written elsewhere are canonical.
func (e *Event) checkDocuments() error {
	for _, part := range []struct {
		name string
		json []byte
	}{{"decision", e.Decision}, {"fact", e.Fact}} {
		if len(part.json) == 0 {
			continue
		}
		if err := CheckCanonical(part.json); err != nil {
			return fmt.Errorf("event %s: the %s is not canonical JSON: %w", e.ID, part.name, err)
		}
	}
	return nil
}

func (p Party) append(b []byte) []byte {
	b = AppendCanonical(append(b, `{"id":`...), p.ID)
	b = AppendCanonical(append(b, `,"type":`...), p.Type)
	return append(b, '}')
}
