package status

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// Ledger is what is known of certificates and of their revocation.
type Ledger interface {
	// Revocations returns those whose position is over after, of certificates
	// that had not expired at alive, in order of position, at most limit.
	Revocations(ctx context.Context, after int64, alive time.Time, limit int) ([]ca.Revocation, error)

	// Standing reports whether a certificate with that serial number (big-endian octets, no
	// leading zeros) was issued, and how it was revoked; nil: not.
	Standing(ctx context.Context, serial []byte) (issued bool, r *ca.Revocation, err error)
}

// Shelf keeps lists, so that all replicas serve the same and numbers only grow.
type Shelf interface {
	// Lists returns the newest lists of an issuer: of these shards, or of all if shards is
	// nil. Shards without one are left out.
	Lists(ctx context.Context, issuer string, shards []int) ([]List, error)

	// Numbers gives out a number for the next list of each of these shards, durably. None is given out twice.
	Numbers(ctx context.Context, issuer string, shards []int) ([]int64, error)

	// KeepLists keeps lists, durably, each unless one stands that has a higher number or tells of more.
	KeepLists(ctx context.Context, lists []List) error
}

// List is one revocation list as it is published.
type List struct {
	Issuer     string // ca.IssuerName
	Shard      int    // -1: the list is of all that the issuer has revoked
	Number     int64
	Through    int64 // position up to which revocations are in it
	ThisUpdate time.Time
	NextUpdate time.Time
	DER        []byte
}
