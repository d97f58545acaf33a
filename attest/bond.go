package attest

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// Bond ties a device to the one TPM that it first attested with. It changes
// in the transaction that issues a certificate, or accepts evidence, and never else.
type Bond struct {
	Device   string
	EK       string         // SHA-256 over the endorsement key's SubjectPublicKeyInfo, lower-case hex; empty where only an attestation key was ever shown
	TPM      Make           // as the endorsement key's certificate said it; zero where there was none
	AK       string         // SHA-256, as EK, of the attestation key pinned for this device
	AKName   []byte         // TPM Name
	AKPublic []byte         // TPMT_PUBLIC; nil where only a certificate of it is known
	Key      [32]byte       // SHA-256 over the SubjectPublicKeyInfo of the key certified last
	Case     Case           // how it was vouched for last
	Clock    Clock          // as quoted last
	Bank     string         // of PCRs; empty before the first quote
	PCRs     map[int][]byte // as accepted last
	First    time.Time      // evidence accepted first
	Last     time.Time      // and last
	Verdict  Verdict        // of the last
	Affirmed time.Time      // last affirming evidence; zero: never
	Evidence [32]byte       // of the last; see EvidenceStore
	EventLog [32]byte       // of the last that had one; zero: none did
}

// Make is what a TPM is, in the words of its endorsement key's certificate.
type Make struct {
	Manufacturer string // tpmManufacturer, such as id:494E5443
	Model        string // tpmModel
	Version      string // tpmVersion: the firmware it left its maker with
}

// Blob is a piece of evidence as it is kept: by the SHA-256 of its bytes, once.
type Blob struct {
	SHA256 [32]byte
	Kind   BlobKind
	Bytes  []byte
}

// BlobKind says what a Blob is.
type BlobKind string

// The kinds of Blob.
const (
	BundleBlob   BlobKind = "bundle"    // an AttestationBundle, DER, with its event log taken out and named by digest
	EventLogBlob BlobKind = "event-log" // a TCG2 crypto-agile event log
)

// Outcome is what accepted evidence leaves behind, in one transaction with what it was accepted for.
type Outcome struct {
	Bond  Bond
	Blobs []Blob
}

// BondStore keeps bonds and evidence.
type BondStore interface {
	// Bond returns the device's, or an error of kind NotFound.
	Bond(ctx context.Context, device string) (Bond, error)

	// BondOf returns the bond that holds this endorsement key, or else this attestation
	// key (SHA-256, hex; an empty one matches none), or an error of kind NotFound.
	BondOf(ctx context.Context, ek, ak string) (Bond, error)

	// Unbind forgets the device's bond, with its event; none there is NotFound.
	Unbind(ctx context.Context, device string, e audit.Event) error

	// Attest commits accepted evidence that no certificate came of. Its errors are those of
	// ca.Store.Issue about bonds: a bond to another TPM is Denied with code
	// ek_mismatch, a device not in service with device_not_in_service.
	Attest(ctx context.Context, o Outcome, e audit.Event) error
}

// EvidenceStore keeps evidence by its digest.
type EvidenceStore interface {
	// KeepEvidence writes blobs that are not there yet; for evidence that was refused.
	KeepEvidence(ctx context.Context, blobs []Blob) error

	// Evidence returns one, or an error of kind NotFound.
	Evidence(ctx context.Context, sha256 [32]byte) (Blob, error)
}
