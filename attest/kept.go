package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Kept is evidence as it is kept: the bundle, and its event log apart, which
// many devices have in common.
type Kept struct {
	Bundle   Blob
	EventLog *Blob // nil where none was sent
}

// Keep returns the evidence as it is kept. In a bundle with an event log the
// wrapping holds, in the log's place, "sha256:" and its digest in hex:
//
//	["application/vnd.hallmark.tcg2-eventlog","sha256:…",4]
func (e *Evidence) Keep() (Kept, error) {
	if e.EventLog == nil {
		return Kept{Bundle: blob(BundleBlob, e.DER)}, nil
	}
	log := blob(EventLogBlob, e.EventLog)
	bundle, err := e.naming(log.SHA256)
	if err != nil {
		return Kept{}, fmt.Errorf("taking an event log out of its bundle: %w", err)
	}
	return Kept{Bundle: blob(BundleBlob, bundle), EventLog: &log}, nil
}

// Blobs lists what there is.
func (k Kept) Blobs() []Blob {
	if k.EventLog == nil {
		return []Blob{k.Bundle}
	}
	return []Blob{k.Bundle, *k.EventLog}
}

func blob(kind BlobKind, b []byte) Blob {
	return Blob{SHA256: sha256.Sum256(b), Kind: kind, Bytes: b}
}

// naming is the bundle with a digest where the event log was. That it can be
// taken apart is known: ParseEvidence has done it.
func (e *Evidence) naming(log [32]byte) ([]byte, error) {
	input := cryptobyte.String(e.DER)
	var bundle, statements cryptobyte.String
	if !input.ReadASN1(&bundle, casn1.SEQUENCE) || !bundle.ReadASN1(&statements, casn1.SEQUENCE) {
		return nil, fmt.Errorf("it is no bundle")
	}
	named := fmt.Appendf(nil, `["%s","sha256:%s",4]`, EventLogType, hex.EncodeToString(log[:]))
	b := cryptobyte.NewBuilder(make([]byte, 0, 4096))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for !statements.Empty() {
				var statement cryptobyte.String
				if !statements.ReadASN1Element(&statement, casn1.SEQUENCE) {
					b.SetError(fmt.Errorf("a statement is no SEQUENCE"))
					return
				}
				addNaming(b, statement, e.wrapped, named)
			}
		})
		b.AddBytes(bundle) // the certificates
	})
	return b.Bytes()
}

// addNaming adds a statement, with named in the place of the event log if it is the one that wraps that.
func addNaming(b *cryptobyte.Builder, statement, wrapped cryptobyte.String, named []byte) {
	var body cryptobyte.String
	var oid asn1.ObjectIdentifier
	rest := statement
	if !rest.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidCMW) || !bytes.Equal(body, wrapped) {
		b.AddBytes(statement)
		return
	}
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidCMW)
		b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(named) })
	})
}
