package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
)

// specimen is what the register knows of a device to learn from.
func (h *house) specimen(ctx context.Context, id string) (attest.Specimen, error) {
	d, err := h.db.Device(ctx, id)
	return attest.Specimen{Model: d.Model, InService: d.State.InService()}, err
}

// models imports devices of model m.
func (h *house) models(ids ...string) {
	h.t.Helper()
	r := h.send(h.client(h.admin), "POST", "/api/v1/devices/import", "text/csv", "id,model\n"+strings.Join(ids, ",m\n")+",m\n")
	if r.StatusCode != 200 {
		h.t.Fatalf("import: %s %s", r.Status, r.body)
	}
}

// attested puts a bond and the decision it came of into the store, as accepted evidence does.
func (h *house) attested(device string, at time.Time) attest.Bond {
	h.t.Helper()
	value := strings.Repeat("a7", 32)
	key := sha256.Sum256([]byte(device))
	bond := attest.Bond{Device: device, EK: hex.EncodeToString(key[:]), AK: hex.EncodeToString(key[:]), Case: attest.CaseActivation, AKName: []byte{0, 11},
		Bank: "sha256", PCRs: map[int][]byte{0: []byte(strings.Repeat("\xa7", 32))}, First: at, Last: at, Verdict: attest.Warning,
		Clock: attest.Clock{Clock: 7, Reset: 2, Restart: 1, Safe: true}, Evidence: [32]byte{1}}
	decision, err := json.Marshal(map[string]any{
		"input": map[string]any{"context": map[string]any{"attestation": map[string]any{
			"evidence_sha256": value, "verdict": "warning",
		}}}, "policy": "builtin", "verdict": "allow",
	})
	check(h.t, err)
	e := audit.Event{ID: audit.NewID(at), At: at, Action: "device.attest", Actor: audit.Party{Type: "device", ID: device},
		Object: audit.Party{Type: "device", ID: device}, Outcome: audit.Granted, Decision: decision}
	check(h.t, h.db.Attest(context.Background(), attest.Outcome{Bond: bond}, e))
	return bond
}

const someBaseline = `{"model":"m","firmware":"2.4","pcrs":{"sha256":{"0":["` + "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7" + `"]}}}`

// baseline proposes one and returns its id.
func (h *house) baseline() string {
	h.t.Helper()
	var b attest.Baseline
	h.want(h.client(h.admin), 201, "POST", "/api/v1/baselines", someBaseline).into(h.t, &b)
	return b.ID
}

func TestAttestationOfADevice(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.models("gw-1", "gw-2")
	if p := h.want(admin, 404, "GET", "/api/v1/devices/gw-1/attestation", "").problem(t); p.Code != "attestation_unknown" {
		t.Errorf("a device without evidence: code %q", p.Code)
	}
	bond := h.attested("gw-1", time.Now())
	var shown shownAttestation
	h.want(admin, 200, "GET", "/api/v1/devices/gw-1/attestation", "").into(t, &shown)
	if shown.Bond == nil || shown.Bond.EK != bond.EK || shown.Bond.Clock.Reset != 2 || shown.Bond.PCRs["0"] == "" || shown.Bond.Affirmed != nil {
		t.Errorf("bond shown as %+v", shown.Bond)
	}
	if shown.Latest == nil || shown.Latest.Action != "device.attest" || len(shown.Latest.Appraisal) == 0 {
		t.Errorf("latest appraisal shown as %+v", shown.Latest)
	}
	h.want(admin, 404, "GET", "/api/v1/devices/gw-7/attestation", "").problem(t)
	h.want(admin, 404, "POST", "/api/v1/devices/gw-2/unbind", `{"reason":"board replaced"}`).problem(t)
	h.want(admin, 204, "POST", "/api/v1/devices/gw-1/unbind", `{"reason":"board replaced"}`)
	h.want(admin, 200, "GET", "/api/v1/devices/gw-1/attestation", "").into(t, &shown)
	if shown.Bond != nil {
		t.Errorf("after unbinding, bond shown as %+v", shown.Bond)
	}
}

func TestLifeOfABaseline(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.models("gw-1")
	h.attested("gw-1", time.Now())
	var learned, b attest.Baseline
	h.want(admin, 201, "POST", "/api/v1/baselines/learn", `{"device":"gw-1","firmware":"2.4"}`).into(t, &learned)
	if learned.State != attest.Draft || learned.Model != "m" || learned.By != "admin" || len(learned.PCRs["sha256"]) != 1 {
		t.Fatalf("learned %+v", learned)
	}
	path := "/api/v1/baselines/" + learned.ID
	h.want(admin, 200, "POST", path+"/activate", `{"canary":"ring=one"}`).into(t, &b)
	if b.State != attest.Canary || b.Canary != "ring=one" {
		t.Errorf("as a canary: %+v", b)
	}
	for _, step := range []struct {
		status     int
		verb, body string
		state      attest.BaselineState
	}{
		{200, "activate", "", attest.Active}, {409, "activate", "", ""}, {200, "deprecate", `{"reason":"old"}`, attest.Deprecated},
		{200, "deny", `{"reason":"vulnerable"}`, attest.Rejected}, {409, "activate", "", ""}, {409, "deny", `{"reason":"again"}`, ""},
	} {
		r := h.want(admin, step.status, "POST", path+"/"+step.verb, step.body)
		if step.status != 200 {
			r.problem(t)
			continue
		}
		if r.into(t, &b); b.State != step.state {
			t.Errorf("%s: state %s, want %s", step.verb, b.State, step.state)
		}
	}
	h.want(admin, 404, "POST", "/api/v1/baselines/none/activate", "").problem(t)
	h.want(admin, 400, "POST", "/api/v1/baselines", `{"model":"m","pcrs":{"sha1":{"0":["00"]}}}`).problem(t)
	h.want(admin, 400, "POST", "/api/v1/baselines", `{"model":"m","surprise":1}`).problem(t)
	h.want(admin, 400, "POST", "/api/v1/baselines/learn", `{}`).problem(t)
	var list struct{ Items []attest.Baseline }
	h.want(admin, 200, "GET", "/api/v1/baselines?state=denied&model=m", "").into(t, &list)
	if len(list.Items) != 1 || list.Items[0].Why != "vulnerable" {
		t.Errorf("denied baselines: %+v", list.Items)
	}
	h.want(h.client(h.viewer), 403, "POST", path+"/deny", `{"reason":"no"}`).problem(t)
}
