package housetest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// untried are changes that this house has nothing for.
var untried = map[string]string{
	"POST /api/v1/devices/{id}/unbind":  "a device that has attested; see the tests with TPMs",
	"POST /api/v1/baselines/learn":      "a device that has attested; see the tests with TPMs",
	"DELETE /api/v1/sessions/{id}":      "an identity provider; see its tests",
	"POST /api/v1/logout":               "an identity provider; see its tests",
	"POST /api/v1/login/token":          "an identity provider; see its tests",
	"POST /api/v1/login/device/token":   "an identity provider; see its tests",
	"PUT /api/v1/operators/{name}/oidc": "an identity provider; see its tests",
	"POST /api/v1/breakglass/open":      "both halves of a sealed key; see TestRulesThatAllowNobodyAnything",
}

// deeds does every change once that the walk could not bring to an end, by people
// who may, so that each change has left its leaf.
func (p *probe) deeds() {
	p.t.Helper()
	token := p.h.Token("--uses", "9")
	if _, err := housetest.Enrol(p.h.EST("gw-3", token)); err == nil {
		p.t.Fatal("nothing was held")
	}
	var held struct{ Items []struct{ ID string } }
	p.admin.calls("GET", "/api/v1/requests?device=gw-3", "").wants(200).into(&held)
	reason := `{"reason":"a probe"}`
	p.things["/api/v1/devices/"] = "gw-3"
	for _, d := range [][2]string{
		{"DELETE /api/v1/tokens/{id}"}, {"DELETE /api/v1/anchors/{id}"},
		{"POST /api/v1/requests/{id}/approve"},
		{"POST /api/v1/certificates/{serial}/revoke", `{"reason":"superseded"}`}, {"POST /api/v1/certificates/revoke", `{"device":"gw-1","reason":"superseded"}`},
		{"POST /api/v1/devices/{id}/quarantine", reason}, {"POST /api/v1/devices/{id}/release", reason}, {"POST /api/v1/devices/{id}/retire", reason},
		{"POST /api/v1/baselines/{id}/activate"}, {"POST /api/v1/baselines/{id}/deprecate", reason}, {"POST /api/v1/baselines/{id}/deny", reason},
		{"POST /api/v1/operators", jsonText(map[string]any{"name": "noa", "roles": []role{{Role: "viewer"}}, "csr": csrText(p.t, newKey(p.t))})},
		{"PUT /api/v1/operators/{name}/roles", `{"roles":[{"role":"line","scope":{"model":"m"}}]}`},
		{"POST /api/v1/operators/{name}/certify", jsonText(map[string]string{"csr": csrText(p.t, newKey(p.t))})},
		{"POST /api/v1/operators/{name}/suspend", reason}, {"POST /api/v1/operators/{name}/resume", reason},
		{"POST /api/v1/operators/{name}/revoke", `{"all":true,"reason":"a probe"}`}, {"POST /api/v1/operators/{name}/remove", reason},
	} {
		p.deed(p.admin, d[0], d[1])
	}
	p.things["/api/v1/requests/"] = held.Items[0].ID
	p.deed(p.admin, "POST /api/v1/requests/{id}/deny", reason)
	p.policyDeeds(reason)
	for i := range p.operations {
		o := &p.operations[i]
		if o.action == "" || o.reads() || p.succeeded(o) || untried[o.String()] != "" {
			continue
		}
		p.t.Errorf("nobody brought %s to an end: it needs a line in deeds", o)
	}
}

// policyDeeds ends one proposal in each way, the last by putting it in force and taking it back.
func (p *probe) policyDeeds(reason string) {
	security, approver := p.admin.adds("sec", role{Role: "security"}), p.admin.adds("app", role{Role: "approver"})
	proposals := "/api/v1/policy/proposals"
	proposal := func(lifetime string) {
		r := p.admin.sends("POST", proposals, "application/gzip", p.bundle(lifetime)).wants(201)
		p.made = append(p.made, witness{reply: r, actor: "admin", action: "policy.propose", outcome: "granted", policy: p.digest, pattern: "POST " + proposals})
		p.things[proposals+"/"] = r.id()
	}
	p.deed(approver, "POST "+proposals+"/{id}/reject", reason)
	proposal("2h")
	p.deed(p.admin, "POST "+proposals+"/{id}/withdraw", reason)
	proposal("3h")
	p.deed(approver, "POST "+proposals+"/{id}/replay", "")
	approver.awaitsReplay(proposals + "/" + p.things[proposals+"/"])
	p.deed(approver, "DELETE "+proposals+"/{id}/replay", "")
	p.deed(approver, "POST "+proposals+"/{id}/approve", "")
	p.deed(security, "POST "+proposals+"/{id}/activate", reason)
	var force struct{ Digest string }
	p.admin.calls("GET", "/api/v1/policy", "").wants(200).into(&force)
	if force.Digest == p.digest {
		p.t.Error("nothing was activated")
	}
	p.digest = force.Digest
	p.deed(security, "POST /api/v1/policy/rollback", reason)
}

// deed is one change that has to succeed; pattern is its operation.
func (p *probe) deed(who *person, pattern, body string) {
	p.t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	o := &operation{method: method, path: path}
	_, target := p.targets(&caller{person: who}, o)
	if target == "" {
		target = path
	}
	r := who.calls(method, target, body)
	if r.status/100 != 2 {
		p.t.Errorf("%s: %d %s", r.what, r.status, r.body)
		return
	}
	p.made = append(p.made, witness{reply: r, actor: who.name, action: p.actionOf(pattern), outcome: "granted", policy: p.digest, pattern: pattern})
}

// succeeded reports whether somebody has brought the operation to an end.
func (p *probe) succeeded(o *operation) bool {
	for _, m := range p.made {
		if m.pattern == o.String() {
			return true
		}
	}
	return false
}

// bundle is the policy directory as an OPA bundle, with unaffirmed certificates of that life.
func (p *probe) bundle(lifetime string) string {
	p.t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	top := os.DirFS(filepath.Join(p.h.Dir, "policy"))
	must(p.t, fs.WalkDir(top, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(top, name)
		if err != nil {
			return err
		}
		if name == "data.json" {
			text = bytes.Replace(text, []byte(`"unaffirmed_lifetime": "4h"`), []byte(`"unaffirmed_lifetime": "`+lifetime+`"`), 1)
		}
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		_, err = archive.Write(text)
		return err
	}))
	must(p.t, archive.Close())
	must(p.t, zipped.Close())
	return packed.String()
}
