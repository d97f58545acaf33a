package attest

// Assurance is how well it is known where a certified key lives. The names
// stand in the configuration and in rules; this is the one place that has them.
type Assurance string

// The levels, from the least.
const (
	AssuredSoftware Assurance = "software"     // nobody knows: a token or an earlier certificate brought the key
	AssuredIDevID   Assurance = "idevid"       // a factory certificate vouched for the device, not for the key
	AssuredTPM      Assurance = "tpm"          // the key lives in the device's TPM
	AssuredAffirmed Assurance = "tpm-affirmed" // and the device booted what a baseline allows
)

// Assurances returns the levels, from the least.
func Assurances() []Assurance {
	return []Assurance{AssuredSoftware, AssuredIDevID, AssuredTPM, AssuredAffirmed}
}

// Assurance returns the level that the result comes to. A nil Result and the
// zero one come to AssuredSoftware.
func (r *Result) Assurance() Assurance {
	switch {
	case r.Attested() && r.Verdict == Affirming:
		return AssuredAffirmed
	case r.Attested():
		return AssuredTPM
	case r != nil && r.Case == CaseIDevID:
		return AssuredIDevID
	}
	return AssuredSoftware
}
