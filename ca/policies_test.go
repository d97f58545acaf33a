package ca_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/store"
)

// levelPolicies are an operator's own.
func levelPolicies() map[attest.Assurance]asn1.ObjectIdentifier {
	return map[attest.Assurance]asn1.ObjectIdentifier{
		attest.AssuredIDevID: {1, 3, 6, 1, 4, 1, 99999, 2, 1}, attest.AssuredTPM: {1, 3, 6, 1, 4, 1, 99999, 2, 2}, attest.AssuredAffirmed: {1, 3, 6, 1, 4, 1, 99999, 2, 3},
	}
}

// TestPolicies has a certificate say what was proven of its key, and no more.
func TestPolicies(t *testing.T) {
	w := newWorld(t, nil)
	own := profiles()[0]
	own.AssurancePolicies = levelPolicies()
	var err error
	if w.authority, err = ca.New(ca.Config{Issuer: w.issuer, Profiles: []ca.Profile{own, profiles()[1]}, Store: w.db, Now: clock}); err != nil {
		t.Fatal(err)
	}
	d := w.device(t, fleet.Device{ID: "tpm-0001", Serial: "SN 1"})
	inTPM := attest.CertifiedKey{Resident: true, Fixed: true}
	tests := map[string]struct {
		proven  attest.Result
		profile string
		want    string
	}{
		"nothing":               {attest.Result{}, "default", ""},
		"nothing of the key":    {attest.Result{Verdict: attest.Affirming, Key: attest.CertifiedKey{Fixed: true}}, "full", ""},
		"factory certificate":   {attest.Result{Case: attest.CaseIDevID}, "default", "1.3.6.1.4.1.99999.2.1"},
		"TPM":                   {attest.Result{Key: inTPM}, "full", "2.23.133.11.1.1 2.23.133.11.1.2"},
		"TPM, own policy":       {attest.Result{Key: inTPM, Verdict: attest.Warning}, "default", "2.23.133.11.1.1 2.23.133.11.1.2 1.3.6.1.4.1.99999.2.2"},
		"affirmed, own policy":  {attest.Result{Key: inTPM, Verdict: attest.Affirming}, "default", "2.23.133.11.1.1 2.23.133.11.1.2 1.3.6.1.4.1.99999.2.3"},
		"resident, but movable": {attest.Result{Key: attest.CertifiedKey{Resident: true}}, "full", "2.23.133.11.1.1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for kind, key := range keysOfEachKind(t) {
				c, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}),
					ca.Order{CSR: request(t, key), Device: d, Known: true, Profile: test.profile, Attested: test.proven})
				if err != nil {
					t.Fatal(err)
				}
				var said []string
				for _, p := range c.Parsed.Policies {
					said = append(said, p.String())
				}
				if got := strings.Join(said, " "); got != test.want {
					t.Errorf("%s: the policies are %q, want %q", kind, got, test.want)
				}
				if has := slices.ContainsFunc(c.Parsed.Extensions, isPolicies); has != (test.want != "") {
					t.Errorf("%s: certificatePolicies present: %v", kind, has)
				}
				opensslVerify(t, w, c)
			}
		})
	}
}

// TestPoliciesOfTheProfile refuses object identifiers that would lie.
func TestPoliciesOfTheProfile(t *testing.T) {
	h := found(t)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "hallmark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for says, policies := range map[string]map[attest.Assurance]asn1.ObjectIdentifier{
		`no level "gold"`:          {"gold": {1, 3, 6, 1, 4, 1, 99999, 1}},
		"not an object identifier": {attest.AssuredTPM: {3, 1}},
		"meaning of its own":       {attest.AssuredSoftware: {2, 23, 133, 11, 1, 1}},
		"stands twice":             {attest.AssuredTPM: {1, 3, 6}, attest.AssuredAffirmed: {1, 3, 6}},
	} {
		p := ca.Profile{Name: "p", TrustDomain: "fleet.example", Lifetime: time.Hour, AssurancePolicies: policies}
		if _, err := ca.New(ca.Config{Issuer: h.issuer, Profiles: []ca.Profile{p}, Store: db}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

func isPolicies(e pkix.Extension) bool { return e.Id.String() == "2.5.29.32" }

// TestCrookedPolicies has an authority elsewhere change what a certificate says of its key.
func TestCrookedPolicies(t *testing.T) {
	ext := func(policies ...asn1.ObjectIdentifier) pkix.Extension {
		var infos []struct{ ID asn1.ObjectIdentifier }
		for _, p := range policies {
			infos = append(infos, struct{ ID asn1.ObjectIdentifier }{p})
		}
		value, err := asn1.Marshal(infos)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: value}
	}
	resident, fixed := asn1.ObjectIdentifier{2, 23, 133, 11, 1, 1}, asn1.ObjectIdentifier{2, 23, 133, 11, 1, 2}
	without := func(c *x509.Certificate) {
		c.ExtraExtensions = slices.DeleteFunc(slices.Clone(c.ExtraExtensions), isPolicies)
		c.Policies, c.PolicyIdentifiers = nil, nil
	}
	with := func(e pkix.Extension) func(*x509.Certificate) {
		return func(c *x509.Certificate) { without(c); c.ExtraExtensions = append(c.ExtraExtensions, e) }
	}
	critical := ext(resident, fixed)
	critical.Critical = true
	proven := attest.Result{Key: attest.CertifiedKey{Resident: true, Fixed: true}}
	for name, test := range map[string]struct {
		proven attest.Result
		bend   func(*x509.Certificate)
		wrong  bool
	}{
		"as it was granted":        {proven, func(*x509.Certificate) {}, false},
		"what nobody proved":       {attest.Result{}, with(ext(resident)), true},
		"nothing of what was":      {proven, without, true},
		"less than was":            {proven, with(ext(resident)), true},
		"more than was":            {proven, with(ext(resident, fixed, asn1.ObjectIdentifier{2, 23, 133, 11, 1, 3})), true},
		"the same, and critically": {proven, with(critical), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(h *house) ca.Issuer { return bent(t, crooked{h: h, bend: test.bend}) })
			d := w.device(t, fleet.Device{ID: "dev-1"})
			_, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), ca.Order{
				CSR: request(t, newKey(t, elliptic.P256())), Device: d, Known: true, Profile: "default", Attested: test.proven})
			if (err != nil) != test.wrong {
				t.Errorf("got %v", err)
			}
		})
	}
}
