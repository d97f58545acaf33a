package attest

import "time"

// Verdict is what an appraisal comes to, in the words of AR4SI's trust vector.
// The zero Verdict claims nothing.
type Verdict int

// The verdicts.
const (
	None            Verdict = iota // nothing to hold the evidence against, or no evidence
	Affirming                      // the device booted what an active baseline allows
	Warning                        // it works, but somebody should look
	Contraindicated                // it is not what it should be
)

// String returns the word that rules, records and people read.
func (v Verdict) String() string {
	switch v {
	case Affirming:
		return "affirming"
	case Warning:
		return "warning"
	case Contraindicated:
		return "contraindicated"
	}
	return "none"
}

// Case says who vouched for the attestation key.
type Case string

// The cases. The zero Case is no evidence of a TPM.
const (
	CaseCertificate Case = "A" // a certificate of the attestation key
	CasePinned      Case = "B" // the key of an earlier enrolment of the same device
	CaseActivation  Case = "C" // credential activation against an endorsement key certificate
	CaseIDevID      Case = "D" // no TPM evidence; a factory certificate alone
	CaseRegistered  Case = "E" // credential activation against an endorsement key that the register lists
)

// Result is what held when evidence was verified. Only verifiers below this
// room fill it, and its zero value claims nothing.
type Result struct {
	Verdict     Verdict
	Case        Case
	AK          AttestationKey
	EK          EndorsementKey
	Key         CertifiedKey
	PCR         PCRs
	Boot        Boot
	Clock       Clock
	Fresh       bool     // a statement carries this exchange's nonce
	Reasons     []Reason // claims short of a refusal: ek_untrusted, clock_unsafe …
	Advisories  []Advisory
	Evidence    [32]byte // SHA-256 of the AttestationBundle's DER; in the record, of what is kept of it (see Evidence.Keep)
	EventLog    [32]byte // SHA-256 of the event log as it came out of its wrapping; zero if none was sent
	AppraisedAt time.Time
}

// Attested reports whether the key asked about was shown to live in a TPM.
func (r *Result) Attested() bool { return r != nil && r.Key.Resident }

// AttestationKey is the key that signed the evidence.
type AttestationKey struct {
	Name   []byte // TPM Name: nameAlg and digest of the public area
	Public []byte // TPMT_PUBLIC; nil where only a certificate came (CaseCertificate)
	SHA256 string // over the SubjectPublicKeyInfo, lower-case hex
	Anchor string // id of the anchor its certificate chains to (CaseCertificate)
}

// EndorsementKey is the identity of the TPM itself.
type EndorsementKey struct {
	SHA256       string // over the SubjectPublicKeyInfo, lower-case hex; empty where the evidence names no endorsement key
	Manufacturer string // tpmManufacturer, such as id:494E5443
	Model        string // tpmModel
	Version      string // tpmVersion, such as id:00020008
	Anchor       string // SHA-256 of the root its certificate chains to; empty if there is none
	Trusted      bool   // it chains to a root, or the register lists the key
	Untrusted    string // why its certificate does not, for people; empty if it does, or there is none
	Certificate  string // SHA-256 of its certificate; empty if there is none
}

// CertifiedKey is the key that the certificate is asked for.
type CertifiedKey struct {
	Name     []byte
	Resident bool // it was made in a TPM and lives there (TCG: verifiedTPMResidency)
	Fixed    bool // it cannot leave that TPM (TCG: verifiedTPMFixed)
}

// PCRs are the quoted platform configuration registers.
type PCRs struct {
	Bank   string         // sha256 or sha384; empty: no quote
	Values map[int][]byte // by index
	Digest []byte         // over the values, as quoted
}

// Boot is what the event log says, after it replayed to the quoted values.
type Boot struct {
	LogReplayed bool
	SecureBoot  *bool           // nil: the log does not say
	BootLoader  []string        // digests of what the firmware loaded, hex, in order (PCR 4)
	Kernel      []string        // digests of what the boot loader loaded, hex, in order (PCR 8, 9)
	Events      map[int][]Event // measured events by PCR, in order; never part of a document
	Baseline    string          // id of the baseline that matched
	Changed     []int           // PCRs that differ from the device's last accepted evidence, where no baseline is there to say
	Differences []Difference    // how the boot differs from the reference nearest to it
}

// Event is one measurement of an event log that replayed.
type Event struct {
	Index  int    `json:"index"` // place in the log, from 0
	Type   string `json:"type"`  // EV_…
	Digest string `json:"digest"`
	Says   string `json:"description,omitempty"` // what the event's data tells, where its digest covers that; printable
}

// Difference is one register that is not what its reference allows.
type Difference struct {
	PCR      int      `json:"pcr"`
	Got      string   `json:"got"`
	Expected []string `json:"expected"`
	// Events are the log's measurements that the reference does not know; Missing are
	// digests that the reference has and the log lacks. Both empty without an event log on both sides.
	Events  []Event  `json:"events,omitempty"`
	Missing []string `json:"missing,omitempty"`
}

// Clock is the TPM's own account of time (TPMS_CLOCK_INFO).
type Clock struct {
	Clock    uint64 // milliseconds of power since the TPM was cleared
	Reset    uint32
	Restart  uint32
	Safe     bool
	Firmware uint64 // the TPM's firmwareVersion
}

// Before reports whether c cannot have come after last on one TPM: resets
// only grow, and within one reset and restart so does the clock.
func (c Clock) Before(last Clock) bool {
	switch {
	case c.Reset != last.Reset:
		return c.Reset < last.Reset
	case c.Restart != last.Restart:
		return c.Restart < last.Restart
	}
	return c.Clock < last.Clock
}

// Advisory is a maker's warning that applies to this TPM.
type Advisory struct {
	ID     string `json:"id"`
	Action string `json:"action"` // warn or deny
	Says   string `json:"text"`
}
