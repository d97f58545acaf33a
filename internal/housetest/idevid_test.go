package housetest_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// A factory certificate proves a device by its subject serialNumber, or its CN
// where there is none; the register knows it by that id or serial.
func TestFactoryCertificates(t *testing.T) {
	h := housetest.Start(t)
	maker, namesake := housetest.NewMaker(t, "Maker"), housetest.NewMaker(t, "Maker")
	devices := filepath.Join(t.TempDir(), "devices.csv")
	if err := os.WriteFile(devices, []byte("id,serial\ngw-1,SN-1\ngw-2,SN-2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("device", "import", devices)
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "idevid", maker.File())

	for name, subject := range map[string]pkix.Name{
		"by serial number": {SerialNumber: "SN-1", CommonName: "something else"},
		"by id":            {SerialNumber: "gw-1"},
		"by common name":   {CommonName: "SN-1"},
	} {
		t.Run(name, func(t *testing.T) {
			client := h.EST("", "")
			client.Certificate = maker.Device(subject, nil).TLS()
			got, err := housetest.Enrol(client)
			if err != nil || got.Certificate.Subject.SerialNumber != "gw-1" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	// strongSwan renews whenever it has a certificate, even with the factory's.
	if err := housetest.RenewWith(h.EST("", ""), maker.Device(pkix.Name{SerialNumber: "SN-2"}, nil)); err != nil {
		t.Errorf("simplereenroll with a factory certificate: %v", err)
	}
	at := func(from, until time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until) }
	}
	for name, story := range map[string]struct {
		with   *housetest.Identity
		status int
		code   string
	}{
		"of a namesake":       {namesake.Device(pkix.Name{SerialNumber: "SN-1"}, nil), 401, "certificate_untrusted"},
		"of nobody known":     {maker.Device(pkix.Name{SerialNumber: "SN-9"}, nil), 403, "device_unknown"},
		"of nobody nameable":  {maker.Device(pkix.Name{SerialNumber: "no/id"}, nil), 403, "device_unknown"},
		"without a name":      {maker.Device(pkix.Name{Organization: []string{"M"}}, nil), 403, "idevid_nameless"},
		"expired":             {maker.Device(pkix.Name{SerialNumber: "SN-1"}, at(-2*time.Hour, -time.Hour)), 403, "certificate_expired"},
		"not yet valid":       {maker.Device(pkix.Name{SerialNumber: "SN-1"}, at(time.Hour, 2*time.Hour)), 403, "certificate_not_yet_valid"},
		"of the maker itself": {&maker.Identity, 403, "certificate_is_ca"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, housetest.EnrolWith(h.EST("", ""), story.with), story.status, story.code)
			if d := showDecision(t, h, e.Ref); d.Outcome != "refused" {
				t.Errorf("the record says %+v", d)
			}
		})
	}
	h.Hallmark("anchor", "remove", anchorID(t, h))
	refused(t, housetest.EnrolWith(h.EST("", ""), maker.Device(pkix.Name{SerialNumber: "SN-1"}, nil)), 401, "certificate_untrusted")
}

func anchorID(t *testing.T, h *housetest.House) string {
	t.Helper()
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(h.Hallmark("anchor", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items[0].ID
}

// A device that nobody imported is admitted where policy says so.
func TestAdmissionOnFirstSight(t *testing.T) {
	h := housetest.Start(t)
	maker := housetest.NewMaker(t, "Maker")
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "idevid", maker.File())
	device := maker.Device(pkix.Name{SerialNumber: "SN-7"}, nil)
	refused(t, housetest.EnrolWith(h.EST("", ""), device), 403, "device_unknown")
	setting(t, h, "admit_unknown", []string{"device"})
	if err := housetest.EnrolWith(h.EST("", ""), device); err != nil {
		t.Fatal(err)
	}
	var d struct{ ID, State string }
	if err := json.Unmarshal([]byte(h.Hallmark("device", "show", "SN-7", "-o", "json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != "SN-7" || d.State != "active" {
		t.Errorf("the register says %+v", d)
	}
}

// A certificate renews itself: not another's, not out of time, not for a
// device that is out of service.
func TestRenewal(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1", "gw-2")
	token := h.Token("--uses", "10")
	mine, err := housetest.Enrol(h.EST("gw-1", token))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, housetest.RenewKey(h.EST("", ""), mine, "gw-2"), 403, "identity_mismatch")
	forged := *mine
	forged.Certificate = &x509.Certificate{Raw: append([]byte{}, mine.Certificate.Raw...)}
	forged.Certificate.Raw[len(forged.Certificate.Raw)-3] ^= 1 // the signature
	refused(t, housetest.RenewWith(h.EST("", ""), &forged), 401, "certificate_untrusted")
	h.Hallmark("device", "quarantine", "gw-1", "--reason", "test")
	refused(t, housetest.RenewWith(h.EST("", ""), mine), 403, "device_quarantined")
	h.Hallmark("device", "release", "gw-1")
	if _, err := housetest.Renew(h.EST("", ""), mine); err != nil {
		t.Errorf("after the release: %v", err)
	}
	h.Hallmark("device", "retire", "gw-1", "--reason", "test")
	refused(t, housetest.RenewWith(h.EST("", ""), mine), 403, "device_retired")
}
