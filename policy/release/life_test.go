package release_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// rules makes a bundle: who refuses is a Rego condition on devices, who decides
// about people is one on operators.
func rules(t testing.TB, refuses, people, settings string) []byte {
	t.Helper()
	text := `package hallmark

default decision := {"verdict": "deny", "reasons": [{"code": "no_rule", "detail": "no"}]}

decision := {"verdict": "deny", "reasons": [{"code": "refused", "detail": "not this one"}]} if {
	input.subject.type == "device"
	` + refuses + `
} else := {"verdict": "allow"} if {
	input.subject.type == "device"
} else := {"verdict": "allow"} if {
	input.subject.type == "user"
	` + people + `
}
`
	dir := t.TempDir()
	for name, content := range map[string]string{"p.rego": text, "data.json": `{"settings": ` + settings + `}`} {
		write(t, filepath.Join(dir, name), content)
	}
	b, err := rego.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := b.Pack(nil)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// language is Rego's, without the checks that a proposal's style and tests have to pass.
type language struct{ release.Rego }

func (l language) Vet(ctx context.Context, bundle []byte) (release.Report, error) {
	loaded, err := l.Load(ctx, bundle)
	if err != nil {
		return release.Report{Problems: []string{err.Error()}}, nil
	}
	return release.Report{Passed: true, Digest: loaded.Digest()}, nil
}

// world is a server's policy with its people, devices and clock.
type world struct {
	*release.Releases
	t       testing.TB
	db      *store.DB
	point   *policy.Point
	people  []string
	devices []string

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB, first []byte) *world {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "h.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, people: []string{"ada", "eve", "lin"}, now: time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC)}
	w.Releases = w.replica(first)
	w.point = &policy.Point{Engine: w.Running, Journal: db, Uphold: w.Running.Uphold}
	return w
}

// replica is another process on the same database.
func (w *world) replica(directory []byte) *release.Releases {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	running := &release.Running{Proposals: w.db, Revisions: w.db, Language: language{}, Now: w.clock, Log: log,
		Directory: func(context.Context) ([]byte, error) { return directory, nil }}
	if err := running.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return &release.Releases{Proposals: w.db, Revisions: w.db, Trials: w.db, Replays: w.db, Differences: w.db, Record: w.db, Journal: w.db, Running: running, Language: language{},
		Now: w.clock, Log: log, Process: "test", Operators: w.operators, Renewals: w.renewals}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) operators(context.Context) ([]policy.Entity, error) {
	var all []policy.Entity
	for _, name := range w.people {
		all = append(all, policy.Entity{Type: "user", ID: name})
	}
	return all, nil
}

func renewal(device string, at time.Time) policy.Request {
	return policy.Request{Subject: policy.Entity{Type: "device", ID: device}, Action: policy.RenewCertificate,
		Parameters: policy.Properties{"profile": "default"}, Resource: policy.Entity{Type: "device", ID: device}, At: at}
}

func (w *world) renewals(context.Context) iter.Seq2[policy.Request, error] {
	return func(yield func(policy.Request, error) bool) {
		for _, d := range w.devices {
			if !yield(renewal(d, w.clock()), nil) {
				return
			}
		}
	}
}

// may asks for a permit as somebody.
func (w *world) may(who string, a policy.Action, id string) (policy.Permit, error) {
	w.t.Helper()
	d, err := policy.Decide(w.t.Context(), w.point, policy.Request{Subject: policy.Entity{Type: "user", ID: who}, Action: a,
		Resource: policy.Entity{Type: "policy", ID: id}, At: w.clock()})
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Permit()
}

func (w *world) permit(who string, a policy.Action, id string) policy.Permit {
	w.t.Helper()
	p, err := w.may(who, a, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// proposed is a proposal by ada that was replayed.
func (w *world) proposed(bundle []byte) release.Proposal {
	w.t.Helper()
	w.pass(time.Second)
	id := audit.NewID(w.clock()).String()
	_, err := w.Propose(w.t.Context(), w.permit("ada", policy.ProposePolicy, id), release.Draft{ID: id, Bundle: bundle, Note: "a change"})
	must(w.t, err)
	p, err := w.Replay(w.t.Context(), w.permit("ada", policy.ReplayPolicy, id), id, release.Period{}, nil)
	must(w.t, err)
	return p
}

// approved is one that eve agreed to.
func (w *world) approved(bundle []byte) release.Proposal {
	w.t.Helper()
	p := w.proposed(bundle)
	p, err := w.Approve(w.t.Context(), w.permit("eve", policy.ApprovePolicy, p.ID), release.Vote{ID: p.ID, Digest: p.Digest})
	must(w.t, err)
	return p
}

func (w *world) activate(id string, s release.Stage) (release.Proposal, error) {
	w.t.Helper()
	return w.Activate(w.t.Context(), w.permit("lin", policy.ActivatePolicy, id), release.Activation{ID: id, Stage: s})
}

func (w *world) renews(device string) *policy.Decision {
	w.t.Helper()
	d, err := policy.Decide(w.t.Context(), w.point, renewal(device, w.clock()))
	must(w.t, err)
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil || fault.Of(err).Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

var all = release.Stage{Kind: release.ToAll}

func TestLife(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1", "gw-2", "gw-3"}
	w.renews("gw-3") // an allowed one waits for its Redeem; a refusal below stands in the record
	base := w.Running.Digest()
	p := w.proposed(rules(t, `input.resource.id == "gw-3"`, `true`, "{}"))
	if p.Replay.Fleet.Asked != 3 || p.Replay.Fleet.Total(release.AllowToDeny) != 1 || p.Replay.Fleet.Differences[0].Resource != "gw-3" ||
		p.Replay.Fleet.Differences[0].Is.Code != "refused" {
		t.Fatalf("the replay says %+v", p.Replay.Fleet)
	}
	_, err := w.Approve(t.Context(), w.permit("ada", policy.ApprovePolicy, p.ID), release.Vote{ID: p.ID})
	wants(t, err, "self_approval")
	if ref := fault.Of(err).Ref; ref == "" {
		t.Error("a refused self-approval is not in the record")
	}
	_, err = w.activate(p.ID, all)
	wants(t, err, "proposal_open")
	_, err = w.Approve(t.Context(), w.permit("eve", policy.ApprovePolicy, p.ID), release.Vote{ID: p.ID, Digest: "sha256:other"})
	wants(t, err, "policy_digest")
	_, err = w.Approve(t.Context(), w.permit("eve", policy.ApprovePolicy, p.ID), release.Vote{ID: p.ID, Digest: p.Digest})
	must(t, err)
	stale := w.proposed(rules(t, `input.resource.id == "gw-2"`, `true`, "{}"))
	p, err = w.activate(p.ID, release.Stage{Kind: release.ToShadow})
	must(t, err)
	if p.State != release.Shadow || w.Running.Digest() != base || w.Running.Course().Version != 1 {
		t.Errorf("in shadow: %s, %+v", p.State, w.Running.Course())
	}
	other := w.replica(rules(t, "true", "true", "{}")) // whatever its directory holds, it follows
	p, err = w.activate(p.ID, all)
	must(t, err)
	must(t, other.Running.Follow(t.Context()))
	if w.Running.Digest() != p.Digest || other.Running.Digest() != p.Digest || p.State != release.Active {
		t.Errorf("in force: %s, %s", w.Running.Digest(), other.Running.Digest())
	}
	if d := w.renews("gw-3"); d.Verdict() != policy.Deny || d.Reasons()[0].Code != "refused" {
		t.Errorf("got %v", d.Reasons())
	}
	if s, err := w.Find(t.Context(), stale.ID); err != nil || s.State != release.Superseded {
		t.Errorf("a proposal whose base is gone is %s, %v", s.State, err)
	}
	wants(t, w.Running.Reload(t.Context()), "policy_in_store")
	back, err := w.Rollback(t.Context(), w.permit("lin", policy.RollbackPolicy, ""), release.Return{Reason: "oops"})
	must(t, err)
	if w.Running.Digest() != base || back.Number != 3 || back.Of != 1 {
		t.Errorf("rolled back to %+v", back)
	}
	if d := w.renews("gw-3"); d.Verdict() != policy.Allow {
		t.Errorf("after the rollback: %v", d.Reasons())
	}
	if p, err = w.Find(t.Context(), p.ID); err != nil || p.State != release.RolledBack {
		t.Errorf("it is %s, %v", p.State, err)
	}
	history, err := w.History(t.Context(), w.permit("ada", policy.PolicyHistory, ""), release.RevisionFilter{})
	must(t, err)
	if len(history) != 3 {
		t.Errorf("%d revisions", len(history))
	}
}

func TestGuardRails(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1", "gw-2"}
	nobody := w.approved(rules(t, "false", `input.subject.id == "ada"`, "{}"))
	_, err := w.activate(nobody.ID, all)
	wants(t, err, "nobody_left")
	many := w.approved(rules(t, "false", "true", `{"approvals": 3}`)) // of three, two are left to approve
	_, err = w.activate(many.ID, all)
	wants(t, err, "nobody_left")
	refusing := w.approved(rules(t, "true", "true", "{}"))
	_, err = w.activate(refusing.ID, all)
	wants(t, err, "refusals_not_accepted")
	a := release.Activation{ID: refusing.ID, Stage: all, AcceptRefusals: 2}
	_, err = w.Activate(t.Context(), w.permit("lin", policy.ActivatePolicy, a.ID), a)
	must(t, err)

	weekdays := w.approved(rules(t, "false", `time.weekday(time.parse_rfc3339_ns(input.context.time)) != "Tuesday"`, "{}"))
	if _, err = w.activate(weekdays.ID, release.Stage{Kind: release.ToPercent, Percent: 5}); err != nil { // today is a Tuesday
		t.Errorf("rules with hours of work: %v", err)
	}
	w.people = []string{"ada", "lin"} // eve, who approved, is no operator any more
	_, err = w.activate(weekdays.ID, all)
	wants(t, err, "approvals_missing")
}

func TestWhoPutItInForceTakesItBack(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	base := w.Running.Digest()
	// Everything is allowed to the pair that the check asks about, and rolling back to nobody.
	p := w.approved(rules(t, "false", `input.action.name != "policy.rollback"`, "{}"))
	_, err := w.activate(p.ID, all)
	must(t, err)
	w.people = append(w.people, "bob")
	if _, err := w.may("bob", policy.RollbackPolicy, ""); err == nil {
		t.Error("somebody else may roll back")
	}
	if _, err := w.may("eve", policy.RollbackPolicy, "7"); err == nil {
		t.Error("an approver may go back anywhere")
	}
	_, err = w.Rollback(t.Context(), w.permit("eve", policy.RollbackPolicy, "1"), release.Return{To: 1})
	must(t, err)
	if w.Running.Digest() != base {
		t.Error("the rules from before are not in force")
	}
}

func TestFallback(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	for i := range 400 {
		w.devices = append(w.devices, fmt.Sprintf("gw-%d", i))
	}
	p := w.approved(rules(t, `endswith(input.resource.id, "7")`, "true", "{}"))
	_, err := w.activate(p.ID, release.Stage{Kind: release.ToPercent, Percent: 50})
	must(t, err)
	sides := func() (staged []string) {
		for _, d := range w.devices {
			answer := policy.Rehearse(t.Context(), w.Running, policy.RenewCertificate, asks(d, w.clock()), 0)
			if answer.Policy == p.Digest {
				staged = append(staged, d)
			}
		}
		return staged
	}
	first := sides()
	if len(first) < 150 || len(first) > 250 || !slices.Equal(first, sides()) {
		t.Errorf("%d of 400 devices are on the staged side, or they move", len(first))
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for fallen := false; !fallen; {
		now, err := w.Find(t.Context(), p.ID)
		must(t, err)
		fallen = now.State == release.FallenBack
		w.pass(time.Second)
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	must(t, <-done)
	if len(sides()) != 0 || w.Running.Course().Trial != "" {
		t.Error("the trial goes on")
	}
	found, err := w.db.Entries(t.Context(), audit.Query{Action: "policy.fallback"})
	must(t, err)
	if len(found) != 1 || !strings.Contains(string(found[0].Leaf), p.Digest) {
		t.Errorf("the record holds %d fallbacks", len(found))
	}
}

func asks(device string, at time.Time) map[string]any {
	q := renewal(device, at)
	return q.Document()
}

// TestSwapUnderLoad: a change of the rules fails nobody's question.
func TestSwapUnderLoad(t *testing.T) {
	one := rules(t, "false", "true", `{"n": 1}`)
	two := rules(t, "false", "true", `{"n": 2}`)
	w := newWorld(t, one)
	ctx, stop := context.WithCancel(t.Context())
	var devices sync.WaitGroup
	for i := range 3 {
		devices.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond) // the changes want some of the processor, too
				if d := w.renews(fmt.Sprintf("gw-%d", i)); d.Verdict() != policy.Allow {
					t.Errorf("refused: %v", d.Reasons())
					return
				}
			}
		})
	}
	for i := range 6 {
		bundle := two
		if i%2 == 1 {
			bundle = one
		}
		p := w.approved(bundle)
		_, err := w.activate(p.ID, all)
		must(t, err)
		_, err = w.Rollback(t.Context(), w.permit("ada", policy.RollbackPolicy, ""), release.Return{})
		must(t, err)
		p = w.approved(bundle)
		_, err = w.activate(p.ID, all)
		must(t, err)
	}
	stop()
	devices.Wait()
}
