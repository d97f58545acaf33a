package enroll_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/store"
)

// TestRehearsalAsksWhatTheDeviceAsks: what a replay asks about a device is what
// the device did ask when it renewed, but for when, whence and by which request.
func TestRehearsalAsksWhatTheDeviceAsks(t *testing.T) {
	e, token := newEnroller(t, 3)
	db := e.Register.Store.(*store.DB)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := (&estclient.Request{Key: key}).DER()
	check(t, err)
	csr, err := ca.ParseCSR(der)
	check(t, err)
	request := enroll.Request{Door: "est", Operation: enroll.Enroll, CSR: csr, Source: "192.0.2.1", ID: "first",
		Proof: enroll.Proof{HasBasic: true, User: "gw-1", Password: token}}
	first, err := e.Enroll(t.Context(), request)
	check(t, err)

	// What the rehearsal asks about each device that holds a certificate, before it renews.
	var rehearsed []map[string]any
	for q, err := range e.Renewals(t.Context(), db) {
		check(t, err)
		if q.Action != policy.RenewCertificate {
			t.Errorf("it asks for %s", q.Action)
		}
		rehearsed = append(rehearsed, asRecorded(t, q.Document()))
	}
	if len(rehearsed) != 1 {
		t.Fatalf("%d devices hold a certificate", len(rehearsed))
	}

	held, err := x509.ParseCertificate(first.DER)
	check(t, err)
	request.Operation, request.ID, request.Proof = enroll.Reenroll, "second", enroll.Proof{Chain: []*x509.Certificate{held}}
	_, err = e.Enroll(t.Context(), request)
	check(t, err)
	entries, err := db.Entries(t.Context(), audit.Query{Action: string(policy.RenewCertificate), Limit: 1})
	check(t, err)
	if len(entries) != 1 {
		t.Fatal("the renewal is not in the record")
	}
	var leaf struct {
		Decision struct{ Input map[string]any }
	}
	check(t, json.Unmarshal(entries[0].Leaf, &leaf))
	asked := leaf.Decision.Input
	for _, own := range []string{"time", "request_id", "ip"} { // of this request
		for _, input := range []map[string]any{rehearsed[0], asked} {
			around, _ := input["context"].(map[string]any)
			delete(around, own)
		}
	}
	if !reflect.DeepEqual(rehearsed[0], asked) {
		t.Errorf("the rehearsal asks\n%s\nand the device has asked\n%s", jsonOf(t, rehearsed[0]), jsonOf(t, asked))
	}
}

// asRecorded is a question as a leaf holds it.
func asRecorded(t *testing.T, document map[string]any) map[string]any {
	t.Helper()
	var read map[string]any
	check(t, json.Unmarshal(audit.AppendCanonical(nil, document), &read))
	return read
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	check(t, err)
	return string(text)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
