package attest

import (
	"testing"
	"time"
)

// What evidence does not show stays as it was; another attestation key of the
// same TPM takes nothing over from the one before.
func TestNext(t *testing.T) {
	first, second, third := time.Unix(1, 0), time.Unix(2, 0), time.Unix(3, 0)
	r := Result{Verdict: Affirming, Case: CaseActivation, EK: EndorsementKey{SHA256: "e1"}, AK: AttestationKey{SHA256: "a1", Name: []byte("n1"), Public: []byte("p1")},
		PCR: PCRs{Bank: "sha256", Values: map[int][]byte{0: {1}}}, Clock: Clock{Clock: 5, Reset: 1}, EventLog: [32]byte{9}, AppraisedAt: first}
	b := r.Next("dev-1", [32]byte{1}, nil)
	if b.Device != "dev-1" || b.EK != "e1" || b.AK != "a1" || !b.First.Equal(first) || !b.Affirmed.Equal(first) || b.Bank != "sha256" || b.Key != [32]byte{1} || b.EventLog != [32]byte{9} {
		t.Errorf("the first: %+v", b)
	}
	// Pinned, and without a quote or a log.
	r = Result{Verdict: Warning, Case: CasePinned, AK: AttestationKey{SHA256: "a1", Name: []byte("n1")}, Evidence: [32]byte{7}, AppraisedAt: second}
	next := r.Next("dev-1", [32]byte{2}, &b)
	if next.EK != "e1" || string(next.AKPublic) != "p1" || next.Clock != b.Clock || next.Bank != "sha256" || next.EventLog != b.EventLog ||
		!next.First.Equal(first) || !next.Last.Equal(second) || !next.Affirmed.Equal(first) || next.Verdict != Warning || next.Key != [32]byte{2} || next.Evidence != [32]byte{7} {
		t.Errorf("the second: %+v", next)
	}
	r = Result{Case: CaseActivation, EK: EndorsementKey{SHA256: "e1"}, AK: AttestationKey{SHA256: "a2", Name: []byte("n2")}, AppraisedAt: third}
	last := r.Next("dev-1", [32]byte{3}, &next)
	if last.AK != "a2" || string(last.AKName) != "n2" || last.AKPublic != nil || !last.First.Equal(first) {
		t.Errorf("the third: %+v", last)
	}
}
