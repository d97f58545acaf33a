package housetest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// drafts is where somebody writes rules to be proposed: those of the server with files changed.
type drafts struct {
	h    *housetest.House
	from string // a directory with the server's rules
	t    testing.TB
}

func newDrafts(t testing.TB, h *housetest.House) *drafts {
	t.Helper()
	d := &drafts{h: h, from: filepath.Join(t.TempDir(), "rules"), t: t}
	h.Hallmark("policy", "show", "--out", d.from)
	return d
}

// dir is a copy of the rules with further files.
func (d *drafts) dir(files map[string]string) string {
	d.t.Helper()
	dir := filepath.Join(d.t.TempDir(), "rules")
	must(d.t, os.CopyFS(dir, os.DirFS(d.from)))
	for name, text := range files {
		must(d.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// packed is the same as a bundle.
func (d *drafts) packed(files map[string]string) string {
	d.t.Helper()
	b, err := rego.ReadDir(d.dir(files))
	must(d.t, err)
	text, err := b.Pack(nil)
	must(d.t, err)
	return string(text)
}

// refusing are rules that refuse the renewals of some devices, in one more file.
func refusing(code, condition string) map[string]string {
	return map[string]string{"more.rego": `package hallmark

# METADATA
# title: Some devices renew nothing
# labels:
#   control: ["TEST:1"]
deny contains {"code": "` + code + `", "detail": "this hall renews nothing"} if {
	input.action.name == "certificate.renew"
	` + condition + `
}
`}
}

// amendment is a proposal as the API shows it.
type amendment struct {
	ID, State, Digest, Base, Why string
	Revision                     int64
	Replay                       *struct {
		Fleet struct{ Asked, Refused int }
	}
}

const changes = "/api/v1/policy/proposals"

// proposes hands rules in.
func (p *person) proposes(bundle string) amendment {
	p.t.Helper()
	var made amendment
	p.sends("POST", changes, "application/gzip", bundle).wants(201).into(&made)
	return made
}

// replays a proposal and waits for what comes of it.
func (p *person) replays(id string) amendment {
	p.t.Helper()
	p.calls("POST", changes+"/"+id+"/replay", "").wants(201)
	for state := "running"; state == "running"; {
		time.Sleep(20 * time.Millisecond)
		var run struct{ State, Why string }
		p.calls("GET", changes+"/"+id+"/replay", "").wants(200).into(&run)
		if state = run.State; state != "running" && state != "done" {
			p.t.Fatalf("the replay is %s: %s", state, run.Why)
		}
	}
	return p.sees(id)
}

// sees looks a proposal up.
func (p *person) sees(id string) amendment {
	p.t.Helper()
	var found amendment
	p.calls("GET", changes+"/"+id, "").wants(200).into(&found)
	return found
}

// puts an approved proposal on a stage.
func (p *person) puts(id, stage string) amendment {
	p.t.Helper()
	var found amendment
	p.calls("POST", changes+"/"+id+"/activate", stage).wants(200).into(&found)
	return found
}

// fleetOf enrols devices of that name, and returns what they hold.
func fleetOf(t testing.TB, h *housetest.House, name string, n int) (ids []string, held map[string]*housetest.Identity) {
	t.Helper()
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%d", name, i+1))
	}
	h.Import(ids...)
	token := h.Token("--uses", fmt.Sprint(n))
	held = map[string]*housetest.Identity{}
	for _, id := range ids {
		identity, err := housetest.Enrol(h.EST(id, token))
		must(t, err)
		held[id] = identity
	}
	return ids, held
}

// recordOf returns the entries of the record, the oldest first, out of an export that was verified.
func recordOf(t testing.TB, h *housetest.House) []leafText {
	t.Helper()
	export := filepath.Join(t.TempDir(), "export.ndjson")
	h.Hallmark("audit", "export", "--out", export)
	h.Hallmark("audit", "verify", export)
	text, err := os.ReadFile(export)
	must(t, err)
	var all []leafText
	for line := range strings.Lines(string(text)) {
		var entry struct{ Leaf leafText }
		must(t, json.Unmarshal([]byte(line), &entry))
		if entry.Leaf.ID != "" {
			all = append(all, entry.Leaf)
		}
	}
	return all
}

// leafText is what the tests read of a leaf.
type leafText struct {
	ID, At, Action, Outcome string
	Actor, Object           struct{ ID string }
	Decision                struct {
		Policy, Verdict string
		Input           struct{ Context struct{ Time string } }
	}
	Fact json.RawMessage
}

// TestARuleChangesSafely is how rules change: what a change would do is known
// before anything is in force, its author cannot approve it, it is tried on
// a part of the fleet and falls back by itself, what is good comes into force by
// stages, and one call takes it back. The record tells of each step.
func TestARuleChangesSafely(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	halls, held := fleetOf(t, h, "hall6", 23)
	closed, more := fleetOf(t, h, "hall7", 17)
	for id, identity := range more {
		held[id] = identity
	}
	admin := firstOperator(t, h)
	eve, lin := admin.adds("eve", role{Role: "approver"}), admin.adds("lin", role{Role: "security"})
	rules := newDrafts(t, h)
	renew := func(ids []string) (refused []string) {
		for _, id := range ids {
			renewed, err := housetest.Renew(h.EST("", ""), held[id])
			if err != nil {
				refused = append(refused, id)
				continue
			}
			held[id] = renewed
		}
		return refused
	}

	// Proposed and replayed: exactly these devices would be refused, and nothing is in force.
	bad := admin.proposes(rules.packed(refusing("hall_closed", `startswith(input.resource.id, "hall7-")`)))
	if said := h.Hallmark("policy", "replay", bad.ID); !strings.Contains(said, "17 of 40 devices would be refused (before: 0)") {
		t.Errorf("the replay says\n%s", said)
	}
	var listed struct {
		Items []struct{ Resource, Class string }
	}
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "differences", bad.ID, "--of", "fleet", "--code", "hall_closed", "--all", "-o", "json")), &listed))
	var shown []string
	for _, d := range listed.Items {
		shown = append(shown, d.Resource)
	}
	if slices.Sort(shown); !slices.Equal(shown, slices.Sorted(slices.Values(closed))) {
		t.Errorf("these devices are shown: %v", shown)
	}
	if refused := renew(closed); len(refused) > 0 {
		t.Errorf("a proposal is in force for %v", refused)
	}

	// Its author cannot approve it; another can. Nobody puts it in force before.
	admin.calls("POST", changes+"/"+bad.ID+"/approve", "").refuses(403, "self_approval")
	lin.calls("POST", changes+"/"+bad.ID+"/activate", "").refuses(409, "proposal_open")
	eve.calls("POST", changes+"/"+bad.ID+"/approve", `{"digest":"sha256:another"}`).refuses(409, "policy_digest")
	eve.calls("POST", changes+"/"+bad.ID+"/approve", `{"digest":"`+bad.Digest+`"}`).wants(200)

	// In shadow it refuses nobody; on a share of the fleet it refuses, and is taken back without anybody's doing.
	lin.puts(bad.ID, `{"stage":"shadow"}`)
	if refused := renew(closed); len(refused) > 0 {
		t.Errorf("in shadow it refuses %v", refused)
	}
	lin.puts(bad.ID, `{"stage":"percent","percent":60}`)
	met := map[string]bool{}
	for deadline := time.Now().Add(60 * time.Second); lin.sees(bad.ID).State == "staged"; {
		if time.Now().After(deadline) {
			t.Fatal("it is not taken back")
		}
		for _, id := range renew(append(slices.Clone(halls), closed...)) {
			met[id] = true
		}
	}
	if fallen := lin.sees(bad.ID); fallen.State != "fallen_back" || !strings.Contains(fallen.Why, "refused") || len(met) == 0 || len(met) == len(closed) {
		t.Errorf("it is %s, %s; refused were %d of %d", fallen.State, fallen.Why, len(met), len(closed))
	}
	for id := range met {
		if !slices.Contains(closed, id) {
			t.Errorf("%s was refused", id)
		}
	}
	if refused := renew(closed); len(refused) > 0 {
		t.Errorf("after the fallback it refuses %v", refused)
	}
	if !strings.Contains(h.Log(), "POLICY FALLBACK") {
		t.Error("no alarm was logged")
	}

	// A good change comes into force by stages, and is taken back in one call.
	good := admin.proposes(rules.packed(refusing("hall_closed", `startswith(input.resource.id, "hall8-")`)))
	if good = lin.replays(good.ID); good.Replay.Fleet.Asked != 40 || good.Replay.Fleet.Refused != 0 {
		t.Errorf("its replay says %+v", good.Replay)
	}
	eve.calls("POST", changes+"/"+good.ID+"/approve", "").wants(200)
	for _, stage := range []string{`{"stage":"shadow"}`, `{"stage":"percent","percent":50}`, `{"stage":"profiles","profiles":["device"]}`, ""} {
		good = lin.puts(good.ID, stage)
		if refused := renew(halls); len(refused) > 0 {
			t.Errorf("%s: refused are %v", stage, refused)
		}
	}
	if good.State != "active" || good.Revision != 2 {
		t.Errorf("it is %+v", good)
	}
	eve.calls("POST", "/api/v1/policy/rollback", `{"reason":"who approved may take it back"}`).wants(200)
	if refused := renew(halls[:1]); len(refused) > 0 {
		t.Error("after the rollback devices are refused")
	}
	theRecordTells(t, h, bad, good)
}

// theRecordTells holds the record against what was done: who, to what, by which rules.
func theRecordTells(t *testing.T, h *housetest.House, bad, good amendment) {
	t.Helper()
	want := []string{
		"policy.propose granted admin " + bad.ID + " " + bad.Base, "policy.replay granted admin " + bad.ID + " " + bad.Base, "policy.replayed done hallmark " + bad.ID + " ",
		"policy.approve refused admin " + bad.ID + " builtin", "policy.approve granted eve " + bad.ID + " " + bad.Base,
		"policy.activate granted lin " + bad.ID + " " + bad.Base, "policy.activate granted lin " + bad.ID + " " + bad.Base, "policy.fallback done hallmark " + bad.ID + " ",
		"policy.propose granted admin " + good.ID + " " + bad.Base, "policy.replay granted lin " + good.ID + " " + bad.Base, "policy.replayed done hallmark " + good.ID + " ",
		"policy.approve granted eve " + good.ID + " " + bad.Base, "policy.activate granted lin " + good.ID + " " + bad.Base, "policy.activate granted lin " + good.ID + " " + bad.Base,
		"policy.activate granted lin " + good.ID + " " + bad.Base, "policy.activate granted lin " + good.ID + " " + bad.Base, "policy.rollback granted eve  "}
	next := 0
	by := map[string]int{}
	for _, l := range recordOf(t, h) {
		if l.Action == "certificate.renew" {
			by[l.Decision.Policy]++
		}
		line := strings.Join([]string{l.Action, l.Outcome, l.Actor.ID, l.Object.ID, l.Decision.Policy}, " ")
		if next < len(want) && strings.HasPrefix(line, want[next]) {
			next++
		}
	}
	if next < len(want) {
		t.Errorf("the record does not tell of %q, in its place", want[next])
	}
	if by[bad.Base] == 0 || by[bad.Digest] == 0 || by[good.Digest] == 0 || len(by) != 3 {
		t.Errorf("renewals were decided by %v", by)
	}
}
