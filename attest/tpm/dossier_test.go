package tpm

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
)

// folder writes files under a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loaded(t *testing.T, files map[string]string) *Dossier {
	t.Helper()
	d, err := LoadDossier(folder(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// crl is a revocation list of an authority that names serials.
func (s *shop) crl(change func(*x509.RevocationList), serials ...*big.Int) []byte {
	s.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.AddDate(-1, 0, 0), NextUpdate: noon.AddDate(0, -6, 0)}
	for _, n := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: noon.AddDate(-1, 0, 0)})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, s.intermediate, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

func TestAFolderThatIsNotThereIsNoData(t *testing.T) {
	d, err := LoadDossier(filepath.Join(t.TempDir(), "attestation"))
	if err != nil || len(d.advisories) != 0 || d.revokedKey("") {
		t.Error(d, err)
	}
}

func TestRevokedKeysAndCertificates(t *testing.T) {
	s, other, public := newShop(t, "Maker"), newShop(t, "Maker"), rsaKey(t).Public()
	leaf := s.ek(public, nil)
	ak := s.ak(public, nil)
	parsed, _ := x509.ParseCertificate(leaf)
	parsedAK, _ := x509.ParseCertificate(ak)
	digest, _ := spkiDigest(public)
	entry := func(c *x509.Certificate) string {
		return `[{"issuer": "` + c.Issuer.String() + `", "serial": "` + c.SerialNumber.Text(16) + `", "reason": "lost"}]`
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"nothing":                   {nil, false},
		"the key":                   {map[string]string{"revoked.json": `[{"sha256": "` + strings.ToUpper(digest) + `"}]`}, true},
		"another key":               {map[string]string{"revoked.json": `[{"sha256": "` + strings.Repeat("00", 32) + `"}]`}, false},
		"its authority":             {map[string]string{"revoked.json": entry(s.intermediate)}, true},
		"its authority's key":       {map[string]string{"revoked.json": `[{"sha256": "` + digestOf(s.intermediate.RawSubjectPublicKeyInfo) + `"}]`}, true},
		"a list, stale":             {map[string]string{"crls/a.pem": pemOf("X509 CRL", s.crl(nil, parsed.SerialNumber, parsedAK.SerialNumber))}, true},
		"a list in DER":             {map[string]string{"crls/a.crl": string(s.crl(nil, parsed.SerialNumber, parsedAK.SerialNumber))}, true},
		"a list of others":          {map[string]string{"crls/a.crl": string(s.crl(nil, big.NewInt(1<<40)))}, false},
		"a list of another's":       {map[string]string{"crls/a.crl": string(other.crl(nil, parsed.SerialNumber, parsedAK.SerialNumber))}, false},
		"a list for a part of them": {map[string]string{"crls/a.crl": string(s.crl(scope(0x81, 0xff), parsed.SerialNumber, parsedAK.SerialNumber))}, true},
		"the certificate itself, of either": {map[string]string{"revoked.json": strings.Replace(entry(parsed), "]",
			","+strings.TrimPrefix(entry(parsedAK), "["), 1)}, true},
	} {
		trust := &Trust{Anchors: anchors{ekAnchors: {s.root}, akAnchors: {s.root}}}
		// Known before or not: what is revoked later counts, too.
		if ek, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
			t.Fatal(ek, err)
		}
		trust.Dossier.Store(loaded(t, c.files))
		for range 2 {
			_, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon)
			if got := code(err); (got == "ek_revoked") != c.want || got != "" && !c.want {
				t.Errorf("%s: endorsement key: %v", name, err)
			}
			_, err = trust.AK(t.Context(), "factory", [][]byte{ak, s.intermediate.Raw}, noon)
			if got := code(err); (got == "ak_revoked") != c.want || got != "" && !c.want {
				t.Errorf("%s: attestation key: %v", name, err)
			}
		}
	}
}

func scope(field, value byte) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oidDistributionPoint, Critical: true, Value: []byte{0x30, 3, field, 1, value}})
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	s := newShop(t, "Maker")
	delta := func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, 1}})
	}
	strange := func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
	}
	for name, c := range map[string]struct{ file, content, says string }{
		"not an array":            {"advisories.json", `{"id": "A"}`, "advisories.json: line 1: not a JSON array"},
		"unknown member":          {"advisories.json", "[\n {\"id\": \"A\", \"action\": \"warn\", \"text\": \"t\"},\n {\"id\": \"B\", \"modle\": \"x\"}\n]", "line 3: json: unknown field"},
		"wrong type":              {"advisories.json", "[\n {\"id\": \"A\",\n  \"action\": 7}]", "line 3:"},
		"broken":                  {"advisories.json", "[\n {\"id\": \"A\",,\n}]", "line 2:"},
		"cut short":               {"advisories.json", "[\n {\"id\": \"A\", \"action\": \"warn\", \"text\": \"t\"}\n", "line 3:"},
		"more after it":           {"revoked.json", "[]\n{}", "line 2: something follows"},
		"no text":                 {"advisories.json", "[\n\n{\"id\": \"A\", \"action\": \"warn\"}]", "line 3: an advisory needs"},
		"another action":          {"advisories.json", `[{"id": "A", "text": "t", "action": "panic"}]`, "line 1: action"},
		"another manufacturer":    {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "manufacturer": "Infineon"}]`, "longer than four"},
		"a bad vendor id":         {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "manufacturer": "id:49"}]`, "eight hex digits"},
		"a bad pattern":           {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "model": "[a"}]`, "not a pattern"},
		"a bad operator":          {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "firmware": "7.62"}]`, "begin with one of"},
		"a bad version":           {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "firmware": ">=7.x"}]`, "below 65536"},
		"a version too long":      {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "firmware": ">=1.2.3.4.5"}]`, "up to four numbers"},
		"nothing below":           {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "firmware": "<0"}]`, "none below"},
		"nothing above":           {"advisories.json", `[{"id": "A", "text": "t", "action": "warn", "firmware": ">65535"}]`, "none above"},
		"no digest":               {"revoked.json", `[{"sha256": "abc"}]`, "line 1: sha256"},
		"half a certificate":      {"revoked.json", `[{"serial": "01"}]`, "either sha256"},
		"both":                    {"revoked.json", `[{"sha256": "00", "serial": "01", "issuer": "CN=x"}]`, "either sha256"},
		"no serial":               {"revoked.json", `[{"issuer": "CN=x", "serial": "zz"}]`, "is not hex"},
		"no certificate":          {"intermediates/x.pem", "hello", "intermediates/x.pem: no CERTIFICATE"},
		"an unreadable one":       {"intermediates/x.der", "\x30\x00", "reading a certificate"},
		"one that is no CA":       {"intermediates/x.der", string(s.ek(rsaKey(t).Public(), nil)), "not a certificate authority"},
		"no list":                 {"crls/x", pemOf("CERTIFICATE", s.root.Raw), "crls/x: no X509 CRL"},
		"an unreadable list":      {"crls/x", "\x30\x00", "reading a revocation list"},
		"a delta list":            {"crls/x", string(s.crl(delta)), "delta"},
		"an indirect list":        {"crls/x", string(s.crl(scope(0x84, 0xff))), "indirect"},
		"a scope cut short":       {"crls/x", string(s.crl(func(l *x509.RevocationList) { scope(0x84, 0)(l); l.ExtraExtensions[0].Value = []byte{0x30, 1, 1} })), "indirect"},
		"a list with a condition": {"crls/x", string(s.crl(strange)), "1.2.3"},
	} {
		if d, err := LoadDossier(folder(t, map[string]string{c.file: c.content})); err == nil || d != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want …%s…", name, err, c.says)
		}
	}
}

func TestIntermediatesOnFile(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	trust := trusting(ekAnchors, s.root)
	trust.Dossier.Store(loaded(t, map[string]string{
		"intermediates/maker.pem": pemOf("CERTIFICATE", s.intermediate.Raw) + pemOf("CERTIFICATE", newShop(t, "Other").intermediate.Raw),
		"intermediates/.hidden":   "anything",
	}))
	if ek, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{s.ek(public, nil)}, noon); err != nil || !ek.Trusted {
		t.Error(ek, err)
	}
}

func TestWhichTPMsAnAdvisoryIsAbout(t *testing.T) {
	infineon := attest.EndorsementKey{Manufacturer: "id:49465800", Model: "SLB9670", Version: "id:073E"} // 7.62
	stm := attest.EndorsementKey{Manufacturer: "id:53544D20", Model: "ST33HTPH", Version: "id:00490008"} // 73.8
	firmware := func(a, b, c, d uint64) uint64 { return a<<48 | b<<32 | c<<16 | d }
	for _, c := range []struct {
		about    string
		ek       attest.EndorsementKey
		firmware uint64
		want     bool
	}{
		{``, infineon, 0, true},
		{`"manufacturer": "IFX"`, infineon, 0, true},
		{`"manufacturer": "id:49465800"`, infineon, 0, true},
		{`"manufacturer": "ID:49465800"`, infineon, 0, true},
		{`"manufacturer": "IFX"`, stm, 0, false},
		{`"manufacturer": "STM "`, stm, 0, true},
		{`"manufacturer": "IFX"`, attest.EndorsementKey{}, 0, false},
		{`"model": "SLB9670"`, infineon, 0, true},
		{`"model": "SLB96*"`, infineon, 0, true},
		{`"model": "SLB9665"`, infineon, 0, false},
		{`"model": "ST33*", "manufacturer": "IFX"`, stm, 0, false},
		{`"firmware": ">=7.62 <7.63"`, infineon, 0, true},                                  // as shipped
		{`"firmware": ">=7.62 <7.63"`, infineon, firmware(7, 85, 4555, 0), false},          // updated since
		{`"firmware": ">=7.62 <7.63"`, infineon, firmware(7, 62, 3126, 0), true},           //
		{`"firmware": "=7.62"`, infineon, firmware(7, 62, 65535, 65535), true},             //
		{`"firmware": "=7.62"`, infineon, firmware(7, 63, 0, 0), false},                    //
		{`"firmware": "<=7.62"`, infineon, firmware(7, 62, 9, 9), true},                    //
		{`"firmware": ">7.62"`, infineon, firmware(7, 62, 9, 9), false},                    //
		{`"firmware": ">7.62"`, infineon, firmware(7, 63, 0, 0), true},                     //
		{`"firmware": "<7.62.3126"`, infineon, firmware(7, 62, 3125, 9), true},             //
		{`"firmware": "=73.8"`, stm, 0, true},                                              //
		{`"firmware": ">=0"`, attest.EndorsementKey{Version: "unknown"}, 0, false},         // not known
		{`"firmware": ">=0"`, attest.EndorsementKey{Version: "id:"}, 0, false},             //
		{`"firmware": ">=0"`, attest.EndorsementKey{Version: "id:000000000000"}, 0, false}, //
	} {
		about := c.about
		if about != "" {
			about = ", " + about
		}
		trust := &Trust{}
		trust.Dossier.Store(loaded(t, map[string]string{"advisories.json": `[{"id": "A-1", "action": "deny", "text": "Old.", "url": "https://example.com/a1"` + about + `}]`}))
		got := trust.Advisories(c.ek, c.firmware)
		if len(got) == 1 != c.want {
			t.Errorf("%s about %s with firmware %x: %v", c.about, c.ek.Model, c.firmware, got)
		}
		if len(got) == 1 && got[0] != (attest.Advisory{ID: "A-1", Action: "deny", Says: "Old. (https://example.com/a1)"}) {
			t.Error(got)
		}
	}
	if got := (&Trust{}).Advisories(infineon, 0); got != nil {
		t.Error("advisories without any on file:", got)
	}
}

// A key that was revoked after its device enrolled is found by its digest alone.
func TestKeysKnownFromEarlier(t *testing.T) {
	trust := &Trust{}
	a, b := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	if err := trust.Revoked(a, b); err != nil {
		t.Error("revoked by nobody:", err)
	}
	trust.Dossier.Store(loaded(t, map[string]string{"revoked.json": `[{"sha256": "` + a + `"}]`}))
	for _, c := range []struct{ ek, ak, want string }{{a, b, "ek_revoked"}, {b, a, "ak_revoked"}, {b, b, ""}, {"", "", ""}} {
		if err := trust.Revoked(c.ek, c.ak); code(err) != c.want {
			t.Errorf("%.4s %.4s: %v, want %q", c.ek, c.ak, err, c.want)
		}
	}
}

// The examples of the operators' page load.
func TestTheExamplesOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/tpm-trust.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## attestation/")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		if _, example, found := strings.Cut(text, "```json\n"); found {
			files[name], _, _ = strings.Cut(example, "```")
		}
	}
	if d := loaded(t, files); len(files) != 2 || len(d.advisories) == 0 || len(d.revocation.keys) == 0 || len(d.revocation.certificates) == 0 {
		t.Errorf("%d examples: %+v", len(files), d)
	}
}
