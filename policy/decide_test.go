package policy_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// journal keeps events in memory; while broken it takes none.
type journal struct {
	mu     sync.Mutex
	events []audit.Event
	broken bool
}

func (j *journal) Append(_ context.Context, e audit.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken {
		return errors.New("the disk is full")
	}
	j.events = append(j.events, e)
	return nil
}

// newPoint asks rules whose decision is the Rego text given.
func newPoint(t *testing.T, decision string) (*policy.Point, *journal) {
	t.Helper()
	dir := t.TempDir()
	text := "package hallmark\n\ndecision := " + decision + "\n"
	if err := os.WriteFile(filepath.Join(dir, "p.rego"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := rego.Load(t.Context(), rego.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{}
	return &policy.Point{Engine: engine, Journal: j}, j
}

var at = time.Date(2026, 11, 23, 21, 0, 0, 123456789, time.UTC)

// question asks for one action on gw-1.
func question(a policy.Action) policy.Request {
	return policy.Request{
		Subject:    policy.Entity{Type: "user", ID: "ada", Properties: policy.Properties{"auth": map[string]any{"method": "mtls"}}},
		Action:     a,
		Parameters: policy.Properties{"reason": "smoke"},
		Resource:   policy.Entity{Type: "device", ID: "gw-1"},
		Context:    policy.Properties{"approval": map[string]any{"id": "r1"}, "time": "not this one"},
		At:         at, Source: "192.0.2.1", RequestID: "q1",
	}
}

func decide(t *testing.T, p *policy.Point, a policy.Action) *policy.Decision {
	t.Helper()
	d, err := policy.Decide(t.Context(), p, question(a))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	allow = `{"verdict": "allow"}`
	hold  = `{"verdict": "hold", "reasons": [{"code": "needs_approval", "detail": "ask ada"}]}`
	deny  = `{"verdict": "deny", "reasons": [{"code": "too_late", "detail": "come in the morning"}]}`
)

func TestOnlyAClearYesIsAYes(t *testing.T) {
	tests := map[string]struct {
		rules  string
		action policy.Action
		code   string
	}{
		"deny":                 {deny, policy.QuarantineDevice, "too_late"},
		"deny without reasons": {`{"verdict": "deny"}`, policy.QuarantineDevice, "denied"},
		"hold of a management": {hold, policy.ApproveRequest, "needs_approval"}, // which would wait for itself
		"hold of a read":       {hold, policy.ListDevices, "needs_approval"},
		"undefined":            {`{"verdict": "allow"} if input.subject.id == "eve"`, policy.QuarantineDevice, "policy_error"},
		"malformed":            {`{"allow": true}`, policy.QuarantineDevice, "policy_error"},
		"error":                {`{"verdict": "allow"} if 1 / count(input.resource.properties) > 0`, policy.QuarantineDevice, "policy_error"},
		"unknown obligation":   {`{"verdict": "allow", "obligations": [{"type": "admit"}, {"type": "watch"}]}`, policy.IssueCertificate, "unknown_obligation"},
		"unknown action":       {allow, "device.paint", "unknown_action"},
		"no action":            {allow, "", "unknown_action"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, j := newPoint(t, test.rules)
			d := decide(t, p, test.action)
			if d.Verdict() != policy.Deny {
				t.Errorf("verdict is %v", d.Verdict())
			}
			if len(j.events) != 1 || j.events[0].Outcome != audit.Refused || j.events[0].ID != d.ID() {
				t.Fatalf("the refusal is not in the record before Decide returns: %+v", j.events)
			}
			_, grantErr := d.Grant()
			_, permitErr := d.Permit()
			for _, err := range []error{grantErr, permitErr} {
				refusal := fault.Of(err)
				if refusal == nil || refusal.Kind != fault.Denied || refusal.Code != test.code || refusal.Ref != d.ID().String() {
					t.Errorf("refusal is %+v, want code %s", refusal, test.code)
				}
			}
			if _, err := d.Held(nil); err == nil {
				t.Error("a refusal was held")
			}
		})
	}
}

func TestRunawayRulesAreADeny(t *testing.T) {
	xs := "some a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs; some g in xs"
	p, j := newPoint(t, `{"verdict": "allow"} if { count([1 | `+xs+`]) > 0 }`+"\nxs := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
	p.Deadline = 20 * time.Millisecond
	d := decide(t, p, policy.RetireDevice)
	if d.Verdict() != policy.Deny || d.Reasons()[0].Code != "policy_error" || len(j.events) != 1 {
		t.Errorf("got %v %v", d.Verdict(), d.Reasons())
	}
	// The record says why, the caller is not told how the rules work.
	if !strings.Contains(string(j.events[0].Decision), "stopped") || !strings.Contains(string(j.events[0].Decision), `"policy":"sha256:`) {
		t.Errorf("the record holds %s", j.events[0].Decision)
	}
	if _, err := d.Permit(); strings.Contains(fault.Of(err).Says, "stopped") {
		t.Errorf("the caller reads %q", fault.Of(err).Says)
	}
}

func TestWithoutTheRecordThereIsNoAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		rules  string
		action policy.Action
	}{
		"refusal": {deny, policy.RetireDevice}, "read": {allow, policy.ListDevices}, "hold": {hold, policy.ApproveRequest},
	} {
		p, j := newPoint(t, test.rules)
		j.broken = true
		d, err := policy.Decide(t.Context(), p, question(test.action))
		if d != nil || !fault.Is(err, fault.Busy) || strings.Contains(fault.Of(err).Says, "disk") {
			t.Errorf("%s: got %v, %v", name, d, err)
		}
		err = policy.Refuse(t.Context(), p, question(test.action), fault.New(fault.Denied, "proof", "no"))
		if !fault.Is(err, fault.Busy) {
			t.Errorf("%s: an unrecorded refusal came back as %v", name, err)
		}
	}
}

func TestWhatIsRecordedWhen(t *testing.T) {
	p, j := newPoint(t, allow)
	if decide(t, p, policy.ListDevices); len(j.events) != 1 || j.events[0].Outcome != audit.Granted {
		t.Errorf("an allowed read is recorded at once, got %+v", j.events)
	}
	if decide(t, p, policy.RetireDevice); len(j.events) != 1 {
		t.Error("an allowed change is recorded with the change, not before")
	}
	p, j = newPoint(t, hold)
	d := decide(t, p, policy.IssueCertificate)
	if len(j.events) != 0 || d.Verdict() != policy.Hold {
		t.Fatalf("a held enrolment is recorded with the request that waits, got %v %+v", d.Verdict(), j.events)
	}
	if _, err := d.Grant(); !fault.Is(err, fault.Held) || fault.Of(err).Code != "needs_approval" {
		t.Errorf("got %v", err)
	}
	e, err := d.Held(policy.Properties{"request": "r1"})
	if err != nil || e.Outcome != audit.Held || string(e.Fact) != `{"request":"r1"}` {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := d.Held(nil); err == nil {
		t.Error("one hold was kept twice")
	}
}

func TestDecisionIsRecordedWhole(t *testing.T) {
	p, j := newPoint(t, `{"verdict": "deny", "reasons": [{"code": "no", "detail": input.context.time}], "profile": "p", "lifetime": "1h"}`)
	decide(t, p, policy.RetireDevice)
	leaf, err := j.events[0].Leaf()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Action, At, Outcome, Source, Request string
		Actor, Object                        audit.Party
		Decision                             struct {
			Policy, Verdict, Profile, Lifetime string
			Reasons                            []policy.Reason
			Input                              map[string]any
		}
	}
	if err := json.Unmarshal(leaf, &got); err != nil {
		t.Fatal(err)
	}
	want := `{"action":{"name":"device.retire","properties":{"reason":"smoke"}},` +
		`"context":{"approval":{"id":"r1"},"ip":"192.0.2.1","request_id":"q1","time":"2026-11-23T21:00:00.123Z"},` +
		`"resource":{"id":"gw-1","properties":{},"type":"device"},` +
		`"subject":{"id":"ada","properties":{"auth":{"method":"mtls"}},"type":"user"}}`
	if input, _ := json.Marshal(got.Decision.Input); string(input) != want {
		t.Errorf("the input is\n%s, want\n%s", input, want)
	}
	if got.Action != "device.retire" || got.Outcome != "refused" || got.Actor.ID != "ada" || got.Object.ID != "gw-1" || got.Request != "q1" {
		t.Errorf("got %+v", got)
	}
	if d := got.Decision; !strings.HasPrefix(d.Policy, "sha256:") || d.Verdict != "deny" || d.Profile != "p" || d.Lifetime != "1h0m0s" ||
		len(d.Reasons) != 1 || d.Reasons[0].Detail != "2026-11-23T21:00:00.123Z" {
		t.Errorf("got %+v", d)
	}
}

func TestRefuseRecordsOnce(t *testing.T) {
	p, j := newPoint(t, allow)
	cause := fault.New(fault.Unauthenticated, "token_unknown", "this token is not known")
	first := fault.Of(policy.Refuse(t.Context(), p, question(policy.IssueCertificate), cause))
	if first.Code != "token_unknown" || first.Kind != fault.Unauthenticated || first.Ref == "" || len(j.events) != 1 || cause.Ref != "" {
		t.Fatalf("got %+v with %d events", first, len(j.events))
	}
	if j.events[0].ID.String() != first.Ref || j.events[0].Outcome != audit.Refused {
		t.Errorf("the reference %s leads to %+v", first.Ref, j.events[0])
	}
	if again := policy.Refuse(t.Context(), p, question(policy.IssueCertificate), first); again != error(first) || len(j.events) != 1 {
		t.Errorf("recorded %d times, got %v", len(j.events), again)
	}
}

func TestObserverIsTold(t *testing.T) {
	p, _ := newPoint(t, deny)
	told := 0
	p.Observe = func(a policy.Action, v policy.Verdict, took time.Duration) {
		if told++; a != policy.RetireDevice || v != policy.Deny || took <= 0 {
			t.Errorf("told %s %v %v", a, v, took)
		}
	}
	if decide(t, p, policy.RetireDevice); told != 1 {
		t.Errorf("told %d times", told)
	}
}
