package housetest_test

import (
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
)

// The process is killed at any moment while rules are proposed, approved, put
// in force and taken back. Afterwards one revision is in force, the record tells
// how it came to that, and the next change works.
func TestRulesOutliveTheProcess(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { rulesOutlive(t, filepath.Join(t.TempDir(), "data"), 10) })
	t.Run("PostgreSQL", func(t *testing.T) {
		cluster, err := pgtest.Start()
		must(t, err)
		t.Cleanup(func() { cluster.Stop() })
		t.Setenv("HALLMARK_TEST_DATABASE", cluster.Database(t))
		rulesOutlive(t, configured(t, "database:\n  url: ${HALLMARK_TEST_DATABASE}\n"), 4)
	})
}

func rulesOutlive(t *testing.T, dir string, rounds int) {
	h := housetest.New(t, dir, "--rate-limits=off")
	h.Run()
	t.Cleanup(h.Kill)
	admin := firstOperator(t, h)
	eve := admin.adds("eve", role{Role: "approver"})
	rules := newDrafts(t, h)
	bundle := func(n int) string {
		return rules.packed(refusing("never", fmt.Sprintf(`input.resource.id == "nobody-%d"`, n)))
	}
	first := admin.proposes(bundle(-1))
	eve.replays(first.ID)
	eve.calls("POST", changes+"/"+first.ID+"/approve", "").wants(200)
	admin.puts(first.ID, "")
	turns := 0
	for round := range rounds {
		gone, made := make(chan struct{}), make(chan int)
		go func() {
			if round%2 == 0 {
				made <- backAndForth(admin, gone)
			} else {
				made <- turnAbout(admin, eve, bundle(round), gone)
			}
		}()
		time.Sleep(time.Duration(200+mathrand.IntN(600+round%2*1500)) * time.Millisecond)
		h.Kill()
		close(gone)
		turns += <-made
		h.Run()
		oneRevision(t, h, admin)
	}
	if turns == 0 {
		t.Errorf("nothing was ever put in force in %d rounds", rounds)
	}
	t.Logf("%d times the rules in force changed", turns)
	// Everything works as ever.
	made := admin.proposes(rules.packed(refusing("never", `input.resource.id == "nobody"`)))
	admin.calls("DELETE", changes+"/"+made.ID+"/replay", "").refuses(404, "not_replayed")
	eve.replaysAnyhow(made.ID)
	eve.calls("POST", changes+"/"+made.ID+"/approve", "").wants(200)
	if made = admin.puts(made.ID, ""); made.State != "active" {
		t.Errorf("the last change is %+v", made)
	}
	oneRevision(t, h, admin)
	recordOf(t, h) // verified
}

// replaysAnyhow replays, and ends the replay of a process that was killed where it is in the way.
func (p *person) replaysAnyhow(id string) {
	p.t.Helper()
	for {
		r := p.calls("POST", changes+"/"+id+"/replay", "")
		if r.status == 201 {
			break
		}
		r.refuses(409, "replay_running")
		var list struct{ Items []struct{ ID string } }
		p.calls("GET", changes, "").wants(200).into(&list)
		for _, i := range list.Items {
			p.calls("DELETE", changes+"/"+i.ID+"/replay", "")
		}
	}
	for state := "running"; state == "running"; time.Sleep(20 * time.Millisecond) {
		var run struct{ State string }
		p.calls("GET", changes+"/"+id+"/replay", "").wants(200).into(&run)
		state = run.State
	}
}

// tried makes a call, unless the server is gone, and reports whether it did what was asked.
func (p *person) tried(gone <-chan struct{}, into any, method, target, kind, body string) bool {
	select {
	case <-gone:
		return false
	default:
	}
	r, err := p.tries(method, target, kind, body)
	return err == nil && r.status/100 == 2 && json.Unmarshal(r.body, into) == nil
}

// backAndForth takes the rules in force back until the server is gone, and returns how often.
func backAndForth(admin *person, gone <-chan struct{}) (turns int) {
	var made amendment
	for admin.tried(gone, &made, "POST", "/api/v1/policy/rollback", "application/json", `{"reason":"back and forth"}`) {
		turns++
	}
	return turns
}

// turnAbout leads one change through its life, and then back and forth, until the
// server is gone. It returns how often the rules in force have changed.
func turnAbout(admin, eve *person, bundle string, gone <-chan struct{}) (turns int) {
	var made amendment
	if !admin.tried(gone, &made, "POST", changes, "application/gzip", bundle) {
		return 0
	}
	id := made.ID
	var list struct{ Items []struct{ ID string } }
	for !eve.tried(gone, &made, "POST", changes+"/"+id+"/replay", "", "") { // that of a killed process may be in the way
		if !eve.tried(gone, &list, "GET", changes, "", "") {
			return 0
		}
		for _, i := range list.Items {
			eve.tried(gone, &made, "DELETE", changes+"/"+i.ID+"/replay", "", "")
		}
	}
	for made.State = "running"; made.State == "running"; {
		if !eve.tried(gone, &made, "GET", changes+"/"+id+"/replay", "", "") {
			return 0
		}
	}
	for _, step := range []struct {
		who        *person
		verb, body string
	}{{eve, "/approve", `{"note":"in haste"}`}, {admin, "/activate", `{"stage":"percent","percent":50}`}, {admin, "/activate", `{"stage":"all"}`}} {
		if !step.who.tried(gone, &made, "POST", changes+"/"+id+step.verb, "application/json", step.body) {
			return 0
		}
	}
	return 1 + backAndForth(admin, gone)
}

// oneRevision holds what is in force against the revisions, the proposals and the record.
func oneRevision(t *testing.T, h *housetest.House, admin *person) {
	t.Helper()
	var force struct {
		Digest   string
		Course   struct{ Revision int64 }
		Revision struct{ Revision int64 }
	}
	admin.calls("GET", "/api/v1/policy", "").wants(200).into(&force)
	var revisions struct {
		Items []struct {
			Revision int64
			Digest   string
		}
	}
	admin.calls("GET", "/api/v1/policy/revisions?limit=1", "").wants(200).into(&revisions)
	if force.Course.Revision == 0 { // nothing was ever put in force
		return
	}
	if newest := revisions.Items[0]; newest.Revision != force.Course.Revision || newest.Revision != force.Revision.Revision || newest.Digest != force.Digest {
		t.Errorf("in force is %+v, and the newest revision is %+v", force, newest)
	}
	var list struct{ Items []amendment }
	admin.calls("GET", changes+"?state=active", "").wants(200).into(&list)
	if len(list.Items) > 1 || len(list.Items) == 1 && list.Items[0].Digest != force.Digest {
		t.Errorf("active are %+v, and in force is %s", list.Items, force.Digest)
	}
	last := int64(0)
	for _, l := range recordOf(t, h) {
		var fact struct {
			Proposal struct{ Revision int64 }
			Revision struct{ Number int64 }
		}
		if json.Unmarshal(l.Fact, &fact) == nil && (l.Action == "policy.activate" || l.Action == "policy.rollback") {
			last = max(last, fact.Proposal.Revision, fact.Revision.Number)
		}
	}
	if last != force.Course.Revision {
		t.Errorf("the record tells of revision %d last, and %d is in force", last, force.Course.Revision)
	}
}

// TestRulesSwapUnderLoad: devices enrol as fast as they can while rules are put
// in force, by stages and at once, and taken back, again and again. Nobody is
// refused, and whatever was decided was decided by rules of that time.
func TestRulesSwapUnderLoad(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	admin := firstOperator(t, h)
	eve := admin.adds("eve", role{Role: "approver"})
	rules := newDrafts(t, h)
	var ids []string
	for i := range 64 {
		ids = append(ids, fmt.Sprintf("gw-%d", i))
	}
	h.Import(ids...)
	token := h.Token("--uses", "1000000")
	var enrolled atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := c; ; i += 8 {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := housetest.Enrol(h.EST(ids[i%len(ids)], token)); err != nil {
					t.Errorf("enrolment %d failed: %v", i, err)
					return
				}
				enrolled.Add(1)
			}
		})
	}
	for n := range 3 {
		made := admin.proposes(rules.packed(refusing("never", fmt.Sprintf(`input.resource.id == "nobody-%d"`, n))))
		eve.replays(made.ID)
		eve.calls("POST", changes+"/"+made.ID+"/approve", "").wants(200)
		for _, stage := range []string{`{"stage":"percent","percent":30}`, `{"stage":"shadow"}`, `{"stage":"percent","percent":70}`, `{"stage":"profiles","profiles":["device"]}`, ""} {
			admin.puts(made.ID, stage)
			more := enrolled.Load() + 8
			for deadline := time.Now().Add(20 * time.Second); enrolled.Load() < more && time.Now().Before(deadline); {
				time.Sleep(5 * time.Millisecond)
			}
		}
		for range 4 {
			admin.calls("POST", "/api/v1/policy/rollback", `{"reason":"back and forth"}`).wants(200)
		}
	}
	close(stop)
	clients.Wait()
	t.Logf("%d enrolments while the rules changed", enrolled.Load())
	decidedByRulesOfTheirTime(t, recordOf(t, h), int(enrolled.Load()))
}

// decidedByRulesOfTheirTime goes through the record: every enrolment names rules
// that were in force or on a stage between its question and its leaf.
func decidedByRulesOfTheirTime(t *testing.T, all []leafText, want int) {
	t.Helper()
	type state struct {
		at     string
		digest []string // in force, on trial
	}
	var states []state
	enrolments := 0
	for _, l := range all {
		var fact struct {
			Policy   struct{ Digest string }
			Proposal struct{ Digest, State string }
			Revision struct{ Digest string }
		}
		_ = json.Unmarshal(l.Fact, &fact)
		now := state{at: l.At}
		switch {
		case l.Action == "policy.load":
			now.digest = []string{fact.Policy.Digest}
		case l.Action == "policy.rollback" && l.Outcome == "granted":
			now.digest = []string{fact.Revision.Digest}
		case l.Action == "policy.activate" && l.Outcome == "granted" && fact.Proposal.State == "active":
			now.digest = []string{fact.Proposal.Digest}
		case l.Action == "policy.activate" && l.Outcome == "granted":
			now.digest = []string{states[len(states)-1].digest[0], fact.Proposal.Digest}
		case l.Action == "certificate.issue":
			enrolments++
			// A change answers with its rules a moment after its leaf, so the state before the question's may have answered, too.
			from := slices.IndexFunc(states, func(s state) bool { return s.at > l.At })
			if from < 0 {
				from = len(states)
			}
			allowed := false
			for _, s := range states[max(0, from-2):] {
				allowed = allowed || slices.Contains(s.digest, l.Decision.Policy)
			}
			if !allowed || l.Outcome != "granted" {
				t.Errorf("enrolment %s was %s by %s, which was not in force then", l.ID, l.Outcome, l.Decision.Policy)
			}
			continue
		default:
			continue
		}
		states = append(states, now)
	}
	if enrolments < want || len(states) < 20 {
		t.Errorf("the record tells of %d enrolments of %d, and of %d changes", enrolments, want, len(states))
	}
}
