// Package corim exchanges baselines as CoRIM files (draft-ietf-rats-corim): the
// subset that says which values the registers of one model's TPMs may have. A file may
// be signed (COSE_Sign1, RFC 9052). Whatever is beyond the subset is refused by name, since a
// reference value that is passed over is one that nobody checks.
package corim

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// MaxFile bounds a CoRIM file, in bytes.
const MaxFile = 1 << 20

// CBOR tags (draft-ietf-rats-corim, Section 12.2).
const (
	tagRIM   = 501
	tagCoMID = 506
)

// ContentType is the media type of a CoRIM file.
const ContentType = "application/rim+cbor"

// rim is a corim-map, as far as it is read.
type rim struct {
	ID       any               `cbor:"0,keyasint"` // text or UUID
	Tags     []cbor.RawMessage `cbor:"1,keyasint"`
	Validity *validity         `cbor:"4,keyasint,omitempty"`
	Entities cbor.RawMessage   `cbor:"5,keyasint,omitempty"` // who made it; a claim that nothing depends on
}

// validity is a validity-map.
type validity struct {
	NotBefore *time.Time `cbor:"0,keyasint,omitempty"`
	NotAfter  time.Time  `cbor:"1,keyasint"`
}

// comid is a concise-mid-tag.
type comid struct {
	Language string          `cbor:"0,keyasint,omitempty"`
	Identity identity        `cbor:"1,keyasint"`
	Entities cbor.RawMessage `cbor:"2,keyasint,omitempty"`
	Triples  triples         `cbor:"4,keyasint"`
}

type identity struct {
	ID      any    `cbor:"0,keyasint"`
	Version uint64 `cbor:"1,keyasint,omitempty"`
}

// triples are the reference triples alone: other kinds say something of keys,
// endorsements and other documents.
type triples struct {
	Reference []reference `cbor:"0,keyasint"`
}

type reference struct {
	_            struct{} `cbor:",toarray"`
	Environment  environment
	Measurements []measurement
}

// environment is a class of devices. An instance or a group would be fewer than a model.
type environment struct {
	Class class `cbor:"0,keyasint"`
}

type class struct {
	ID     cbor.RawMessage `cbor:"0,keyasint,omitempty"` // a name for machines
	Vendor string          `cbor:"1,keyasint,omitempty"`
	Model  string          `cbor:"2,keyasint"`
}

type measurement struct {
	Key    cbor.RawMessage `cbor:"0,keyasint,omitempty"` // a name for what was measured
	Values values          `cbor:"1,keyasint"`
}

type values struct {
	Version   *version            `cbor:"0,keyasint,omitempty"`
	Registers map[uint64][]digest `cbor:"14,keyasint"`
}

type version struct {
	Version string `cbor:"0,keyasint"`
	Scheme  any    `cbor:"1,keyasint,omitempty"`
}

// digest is a value with its algorithm (IANA Named Information Hash Algorithm Registry).
type digest struct {
	_         struct{} `cbor:",toarray"`
	Algorithm any
	Value     []byte
}

// algorithm is a bank of PCRs as CoRIM names it.
type algorithm struct {
	bank string
	id   uint64
	name string
	size int
}

var algorithms = []algorithm{{"sha256", 1, "sha-256", 32}, {"sha384", 7, "sha-384", 48}}

// semver is the version-scheme of semantic versions (RFC 9393, Section 4.1).
const semver = 16384

// forever is the not-after of what has no end (RFC 5280, Section 4.1.2.5).
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// encoding writes deterministically (RFC 8949, Section 4.2.1).
func encoding() cbor.EncMode {
	options := cbor.CoreDetEncOptions()
	options.Time, options.TimeTag = cbor.TimeUnix, cbor.EncTagRequired
	mode, err := options.EncMode()
	if err != nil {
		panic(err) // only constants go in
	}
	return mode
}

// decoding reads strictly, within bounds.
func decoding() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TimeTag: cbor.DecTagRequired,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 16, MaxArrayElements: 4096, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic(err) // only constants go in
	}
	return mode
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Malformed, "corim_malformed", "the CoRIM file "+fmt.Sprintf(format, args...))
}
