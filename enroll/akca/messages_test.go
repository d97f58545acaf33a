package akca

import (
	"encoding/json"
	"testing"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// FuzzMessages gives both readers anything. What they refuse is the caller's
// mistake, and what they take is within bounds.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"tpmInfo":{"version":2,"manufacturer":"1229346816"},"ek":"MAA=","ekCerts":["MAA="],"params":{"public":"AAE=","createData":"","createAttestation":"/1RDRw==","createSignature":"AA=="}}`))
	f.Add([]byte(`{"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"ek":null,"params":{"useTCSDActivationFormat":true}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var introduced attestRequest
		err := parse(body, &introduced)
		if err == nil {
			var r enroll.AKRequest
			if r, err = introduced.request(enroll.Request{}); err == nil && (len(r.EK) == 0 || len(r.Key.Public) == 0 || len(r.EKCerts) > maxEKCerts) {
				t.Errorf("taken: %+v", r)
			}
		}
		var opened secretRequest
		for _, err := range []error{err, parse(body, &opened)} {
			if err != nil && !fault.Is(err, fault.Malformed) {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}

// TestWireFormat is what smallstep's client sends and reads, to the letter.
func TestWireFormat(t *testing.T) {
	answer, err := json.Marshal(attestAnswer{Credential: []byte{0xfb, 0xff}, Secret: []byte{1}})
	if err != nil || string(answer) != `{"credential":"+/8=","secret":"AQ=="}` {
		t.Errorf("got %s, %v", answer, err)
	}
	if answer, err = json.Marshal(secretAnswer{Chain: [][]byte{{0x30}, {0x31}}}); err != nil || string(answer) != `{"chain":["MA==","MQ=="]}` {
		t.Errorf("got %s, %v", answer, err)
	}
	var m attestRequest
	if err := parse([]byte(`{"tpmInfo":{"version":2,"model":"SW TPM"},"ek":"+/8=","ekCerts":["MA=="],"akCert":"MA==","params":{"public":"AQ==","createData":"Ag==","createAttestation":"Aw==","createSignature":"BA=="}}`), &m); err != nil {
		t.Fatal(err)
	}
	r, err := m.request(enroll.Request{Profile: "x"})
	if err != nil || r.Profile != "x" || string(r.EK) != "\xfb\xff" || len(r.EKCerts) != 1 ||
		string(r.Key.Public)+string(r.Key.Data)+string(r.Key.Attestation)+string(r.Key.Signature) != "\x01\x02\x03\x04" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestStatusOfEveryKind fails when a kind of error is added and not answered here.
func TestStatusOfEveryKind(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.Denied: 403,
		fault.Held: 403, fault.NotFound: 404, fault.Conflict: 409, fault.Busy: 503,
	}
	for _, kind := range fault.Kinds {
		status, said := want[kind]
		if !said {
			t.Errorf("a kind %q that this door says nothing about", kind)
		}
		if got := statusOf(kind); got != status {
			t.Errorf("%s: got %d, want %d", kind, got, status)
		}
	}
}
