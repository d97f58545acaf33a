package attest

// Challenge is what a device was asked to prove, and how: the outcome of its
// nonce exchange.
type Challenge struct {
	Nonce      []byte
	ExtraData  []byte         // what statements must carry: the nonce, or SHA-256(nonce ‖ secret) after an activation
	Bank       string         // the one PCR bank to quote: sha256 or sha384
	PCRs       []int          // ascending
	AKPublic   []byte         // TPMT_PUBLIC of the attestation key, where the exchange named it
	Activated  bool           // ExtraData can be known only to the TPM that holds both AKPublic's key and EK
	EK         EndorsementKey // of an activation, as it was appraised then
	EKReasons  []Reason       // of an activation: ek_untrusted …
	Advisories []Advisory
}

// Binding is what evidence must be bound to.
type Binding struct {
	SPKI      []byte // DER SubjectPublicKeyInfo of the key asked about
	Challenge Challenge
	Profile   string // whose anchors count
	Terms     Terms
	Device    Identity
	Bond      *Bond // what the device attested with before; nil if it never did
}

// Terms is what a profile asks of evidence.
type Terms struct {
	CertifyFresh bool // certify must carry the nonce, too; otherwise a fresh quote by the same key is enough
	EventLog     bool // an event log is required
}

// Identity is what the register knows of a device that evidence may name it by.
type Identity struct {
	ID, Serial         string
	EKSHA256, AKSHA256 string // over the SubjectPublicKeyInfo, lower-case hex; empty if unknown
}
