package attest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/store"
)

// house is a store, the default rules, and the rooms that the tests speak to.
type house struct {
	t         *testing.T
	db        *store.DB
	point     *policy.Point
	register  *fleet.Register
	baselines *attest.Baselines
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "hallmark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := os.CopyFS(filepath.Join(dir, "policy"), rego.Default()); err != nil {
		t.Fatal(err)
	}
	rules, err := rego.Load(ctx, rego.Config{Dir: filepath.Join(dir, "policy")})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, db: db, point: &policy.Point{Engine: rules, Journal: db}, register: &fleet.Register{Store: db, Now: time.Now}}
	h.baselines = h.replica()
	lines := []fleet.Line{}
	for i, id := range []string{"gw-1", "gw-2", "gw-3"} {
		lines = append(lines, fleet.Line{Number: i + 1, Device: fleet.Device{ID: id, Model: "GW-1"}})
	}
	if _, err := h.register.Import(ctx, h.permit(policy.ImportDevices, ""), lines, nil, ""); err != nil {
		t.Fatal(err)
	}
	return h
}

// replica is another server's view of the same store.
func (h *house) replica() *attest.Baselines {
	return &attest.Baselines{Store: h.db, Bonds: h.db, Evidence: h.db, Now: time.Now, Replay: tpm.ReplayLog,
		Device: func(ctx context.Context, id string) (attest.Specimen, error) {
			d, err := h.register.Device(ctx, id)
			return attest.Specimen{Model: d.Model, InService: d.State.InService()}, err
		}}
}

// permit asks policy as the first operator, who may do everything to anything.
func (h *house) permit(a policy.Action, id string) policy.Permit {
	h.t.Helper()
	d, err := policy.Decide(context.Background(), h.point, policy.Request{
		Subject: policy.Entity{Type: "user", ID: "admin", Properties: policy.Properties{"roles": []string{"admin"}}}, Action: a, Resource: policy.Entity{Type: "thing", ID: id}, At: time.Now()})
	if err != nil {
		h.t.Fatal(err)
	}
	p, err := d.Permit()
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// add adds a draft.
func (h *house) add(b attest.Baseline) attest.Baseline {
	h.t.Helper()
	b.ID = audit.NewID(time.Now()).String()
	added, err := h.baselines.Add(context.Background(), h.permit(policy.AddBaseline, b.ID), b)
	if err != nil {
		h.t.Fatal(err)
	}
	return added
}

// activate makes a baseline count; canary is empty for active.
func (h *house) activate(id, canary string) {
	h.t.Helper()
	a := attest.Activation{ID: id, To: attest.Active}
	if canary != "" {
		a.To, a.Canary = attest.Canary, canary
	}
	if err := h.baselines.Activate(context.Background(), h.permit(policy.ActivateBaseline, id), a); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) deny(id string) {
	h.t.Helper()
	if err := h.baselines.Deny(context.Background(), h.permit(policy.DenyBaseline, id), id, "CVE-2026-1"); err != nil {
		h.t.Fatal(err)
	}
}

// active adds a baseline that counts at once.
func (h *house) active(b attest.Baseline) attest.Baseline {
	h.t.Helper()
	added := h.add(b)
	h.activate(added.ID, "")
	return added
}

// appraise holds a result against the baselines of GW-1.
func (h *house) appraise(r *attest.Result, bond *attest.Bond, labels ...string) error {
	h.t.Helper()
	set := map[string]string{}
	for _, l := range labels {
		name, value, _ := strings.Cut(l, "=")
		set[name] = value
	}
	return h.baselines.Appraise(context.Background(), "GW-1", set, r, bond)
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || fault.Of(err).Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	if strings.ContainsAny(fault.Of(err).Says, "\n\r") || len(fault.Of(err).Says) > 300 {
		t.Fatalf("not for one line: %q", fault.Of(err).Says)
	}
}

// machine is a machine that can boot.
type machine struct {
	t   *testing.T
	tpm *forge.TPM
	log *forge.EventLog
}

var quoted = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}

func boot(t *testing.T, firmware string, secure bool, loader, kernel string) *machine {
	t.Helper()
	tpm, err := forge.New("p256", "p256", "p256")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t, tpm, &forge.EventLog{}}
	m.log.Boot(tpm, firmware, secure, loader, kernel)
	return m
}

// result is what a verifier would say of the machine.
func (m *machine) result(bank string, log bool) *attest.Result {
	m.t.Helper()
	r := &attest.Result{PCR: attest.PCRs{Bank: bank, Values: map[int][]byte{}}}
	for _, n := range quoted {
		r.PCR.Values[n] = m.tpm.PCR(bank, n)
	}
	if log {
		replayed, err := tpm.ReplayLog(m.log.Bytes(), r.PCR)
		if err != nil {
			m.t.Fatal(err)
		}
		r.Boot, r.EventLog = replayed, sha256.Sum256(m.log.Bytes())
	}
	return r
}

// baseline is what one would write of the machine.
func (m *machine) baseline(bank string) attest.Baseline {
	b := attest.Baseline{Model: "GW-1", Firmware: "1.0", PCRs: map[string]map[int][]string{bank: {}}}
	for n, value := range m.result(bank, true).PCR.Values {
		b.PCRs[bank][n] = []string{hex.EncodeToString(value)}
	}
	b.Events = m.result(bank, true).Boot.Events
	return b
}

// TestLife follows a baseline from draft to denied, and a device that boots what it says.
func TestLife(t *testing.T) {
	h, m := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	verdict := func(labels ...string) attest.Verdict {
		t.Helper()
		r := m.result("sha256", true)
		if err := h.appraise(r, nil, labels...); err != nil {
			t.Fatal(err)
		}
		return r.Verdict
	}
	b := h.add(m.baseline("sha256"))
	if v := verdict(); v != attest.None || b.State != attest.Draft || b.By != "admin" {
		t.Fatalf("a draft counts: %v, %+v", v, b)
	}
	h.activate(b.ID, "ring=canary")
	if v := verdict("ring=canary"); v != attest.Affirming {
		t.Fatalf("canary: %v", v)
	}
	if v := verdict("ring=main"); v != attest.None {
		t.Fatalf("a canary counts for others: %v", v)
	}
	h.activate(b.ID, "ring=early")
	if v := verdict("ring=early"); v != attest.Affirming {
		t.Fatalf("canary of another group: %v", v)
	}
	h.activate(b.ID, "")
	if v := verdict(); v != attest.Affirming {
		t.Fatalf("active: %v", v)
	}
	if err := h.baselines.Deprecate(context.Background(), h.permit(policy.DeprecateBaseline, b.ID), b.ID, "2.0 is out"); err != nil {
		t.Fatal(err)
	}
	if v := verdict(); v != attest.Warning {
		t.Fatalf("deprecated: %v", v)
	}
	h.deny(b.ID)
	r := m.result("sha256", true)
	err := h.appraise(r, nil)
	wantCode(t, err, "baseline_denied")
	if r.Verdict != attest.Contraindicated || r.Boot.Baseline != b.ID || !strings.Contains(err.Error(), "CVE-2026-1") {
		t.Fatalf("denied: %v, %+v", err, r.Boot)
	}
	shown, err := h.baselines.Show(context.Background(), h.permit(policy.ShowBaseline, b.ID), b.ID)
	if err != nil || shown.State != attest.Rejected || shown.ChangedBy != "admin" || shown.Why != "CVE-2026-1" {
		t.Fatalf("%+v, %v", shown, err)
	}
}

// TestMovesGoForward tries every move from every state.
func TestMovesGoForward(t *testing.T) {
	h, ctx := newHouse(t), context.Background()
	moves := map[string]func(id string) error{
		"canary": func(id string) error {
			return h.baselines.Activate(ctx, h.permit(policy.ActivateBaseline, id), attest.Activation{ID: id, To: attest.Canary, Canary: "a=b"})
		},
		"active": func(id string) error {
			return h.baselines.Activate(ctx, h.permit(policy.ActivateBaseline, id), attest.Activation{ID: id, To: attest.Active})
		},
		"deprecated": func(id string) error {
			return h.baselines.Deprecate(ctx, h.permit(policy.DeprecateBaseline, id), id, "")
		},
		"denied": func(id string) error { return h.baselines.Deny(ctx, h.permit(policy.DenyBaseline, id), id, "") },
	}
	paths := map[string][]string{"draft": {}, "canary": {"canary"}, "active": {"active"}, "deprecated": {"active", "deprecated"}, "denied": {"denied"}}
	may := map[string][]string{"draft": {"canary", "active", "denied"}, "canary": {"canary", "active", "denied"},
		"active": {"deprecated", "denied"}, "deprecated": {"denied"}, "denied": {}}
	m := boot(t, "1.0", true, "shim", "linux").baseline("sha256")
	for from, path := range paths {
		for to, move := range moves {
			id := h.add(m).ID
			for _, step := range path {
				if err := moves[step](id); err != nil {
					t.Fatal(err)
				}
			}
			err := move(id)
			if allowed := slices.Contains(may[from], to); allowed != (err == nil) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if err != nil {
				wantCode(t, err, "baseline_state")
			}
		}
	}
}

// TestPermits shows that a permit for one thing is good for nothing else.
func TestPermits(t *testing.T) {
	h, ctx := newHouse(t), context.Background()
	b := h.add(boot(t, "1.0", true, "shim", "linux").baseline("sha256"))
	other := h.permit(policy.DenyBaseline, "another")
	for name, err := range map[string]error{
		"another baseline": h.baselines.Deny(ctx, other, b.ID, "x"),
		"another verb":     h.baselines.Activate(ctx, other, attest.Activation{ID: b.ID, To: attest.Active}),
		"none":             h.baselines.Deprecate(ctx, policy.Permit{}, b.ID, "x"),
		"list":             second(h.baselines.List(ctx, other, attest.BaselineFilter{})),
		"show":             second(h.baselines.Show(ctx, policy.Permit{}, b.ID)),
		"add":              second(h.baselines.Add(ctx, other, b)),
		"learn":            second(h.baselines.Learn(ctx, other, attest.Lesson{ID: b.ID, Device: "gw-1"})),
	} {
		if err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	if err := h.baselines.Deny(ctx, h.permit(policy.DenyBaseline, "nobody"), "nobody", "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("of nobody: %v", err)
	}
	again := b
	if _, err := h.baselines.Add(ctx, h.permit(policy.AddBaseline, b.ID), again); !fault.Is(err, fault.Conflict) {
		t.Errorf("twice: %v", err)
	}
	for name, a := range map[string]attest.Activation{
		"to denied":      {ID: b.ID, To: attest.Rejected},
		"to nothing":     {ID: b.ID},
		"unlabelled":     {ID: b.ID, To: attest.Canary},
		"half a label":   {ID: b.ID, To: attest.Canary, Canary: "ring"},
		"active, canary": {ID: b.ID, To: attest.Active, Canary: "a=b"},
	} {
		if err := h.baselines.Activate(ctx, h.permit(policy.ActivateBaseline, b.ID), a); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestList pages through them, newest first.
func TestList(t *testing.T) {
	h, ctx := newHouse(t), context.Background()
	m := boot(t, "1.0", true, "shim", "linux").baseline("sha256")
	var ids []string
	for range 5 {
		ids = append([]string{h.add(m).ID}, ids...)
	}
	var got []string
	for f := (attest.BaselineFilter{Model: "GW-1", Limit: 2}); ; f.Before = got[len(got)-1] {
		page, err := h.baselines.List(ctx, h.permit(policy.ListBaselines, ""), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page {
			got = append(got, b.ID)
		}
		if len(page) < 2 {
			break
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
}

// TestReplicas shows that another server sees a denial soon.
func TestReplicas(t *testing.T) {
	h, m := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	b, other := h.active(m.baseline("sha256")), h.replica()
	if err := other.Appraise(context.Background(), "GW-1", nil, m.result("sha256", true), nil); err != nil {
		t.Fatal(err)
	}
	h.deny(b.ID)
	for range 600 {
		if err := other.Appraise(context.Background(), "GW-1", nil, m.result("sha256", true), nil); err != nil {
			wantCode(t, err, "baseline_denied")
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the other server still goes by what it read before")
}

// TestBaselineFile reads a file and writes it as it was: the format is a promise.
func TestBaselineFile(t *testing.T) {
	golden, err := os.ReadFile("testdata/baseline.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := attest.ParseBaseline(golden)
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.MarshalIndent(fileOf(b), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if string(written)+"\n" != string(golden) {
		t.Errorf("got\n%s\nwant\n%s", written, golden)
	}
	stored := newHouse(t).add(b)
	shown, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	again, err := attest.ParseBaseline(shown) // what one server shows, another takes
	if err != nil || !reflect.DeepEqual(again, b) {
		t.Errorf("shown and read again: %+v, %v", again, err)
	}
	if again.Digest() != b.Digest() {
		t.Error("the same demands have another digest")
	}
}

// fileOf drops what the server keeps.
func fileOf(b attest.Baseline) map[string]any {
	raw, _ := json.Marshal(b)
	var members map[string]any
	json.Unmarshal(raw, &members)
	for _, name := range []string{"id", "state", "created", "created_by", "changed"} {
		delete(members, name)
	}
	return members
}

func TestMalformedBaselines(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for name, document := range map[string]string{
		"nothing":           ``,
		"not an object":     `[]`,
		"cut short":         `{"model":"GW-1","pcrs":{"sha256":{"0":["` + digest + `"]}}`,
		"two":               `{"model":"GW-1","pcrs":{"sha256":{"0":["` + digest + `"]}}} {}`,
		"unknown member":    `{"model":"GW-1","pcr":{"sha256":{"0":["` + digest + `"]}}}`,
		"no model":          `{"pcrs":{"sha256":{"0":["` + digest + `"]}}}`,
		"demands nothing":   `{"model":"GW-1"}`,
		"an empty bank":     `{"model":"GW-1","pcrs":{"sha256":{}}}`,
		"bank":              `{"model":"GW-1","pcrs":{"sha1":{"0":["` + digest[:40] + `"]}}}`,
		"register":          `{"model":"GW-1","pcrs":{"sha256":{"24":["` + digest + `"]}}}`,
		"negative register": `{"model":"GW-1","pcrs":{"sha256":{"-1":["` + digest + `"]}}}`,
		"register's name":   `{"model":"GW-1","pcrs":{"sha256":{"x":["` + digest + `"]}}}`,
		"no values":         `{"model":"GW-1","pcrs":{"sha256":{"0":[]}}}`,
		"digest's length":   `{"model":"GW-1","pcrs":{"sha384":{"0":["` + digest + `"]}}}`,
		"no hex":            `{"model":"GW-1","pcrs":{"sha256":{"0":["` + strings.Repeat("zz", 32) + `"]}}}`,
		"denied digest":     `{"model":"GW-1","log_rules":{"denied_digests":["ab"]}}`,
		"allows nothing":    `{"model":"GW-1","log_rules":{"allowed_digests":{"4":[]}}}`,
		"event":             `{"model":"GW-1","log_rules":{"secure_boot":true},"events":{"4":[{"index":1,"type":"x","digest":""}]}}`,
		"terminal":          `{"model":"GW-1\u001b[31m","pcrs":{"sha256":{"0":["` + digest + `"]}}}`,
		"window":            `{"model":"GW-1","log_rules":{"secure_boot":true},"valid_from":"2026-02-01T00:00:00Z","valid_to":"2026-01-01T00:00:00Z"}`,
		"too large":         `{"model":"` + strings.Repeat("x", attest.MaxBaseline) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := attest.ParseBaseline([]byte(document))
			wantCode(t, err, "baseline_malformed")
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("kind: %v", fault.Of(err).Kind)
			}
		})
	}
}

// FuzzParseBaseline takes any bytes; what is taken can be written and is taken again.
func FuzzParseBaseline(f *testing.F) {
	golden, err := os.ReadFile("testdata/baseline.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"model":"m","log_rules":{"secure_boot":false}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		b, err := attest.ParseBaseline(document)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatal(err)
			}
			return
		}
		b.Digest()
		written, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := attest.ParseBaseline(written); err != nil || again.Digest() != b.Digest() {
			t.Fatalf("%s\nis not taken again: %v", written, err)
		}
	})
}
