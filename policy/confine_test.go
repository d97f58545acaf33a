package policy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// warden writes the events of quarantines into the journal, as a store does,
// and remembers whom it has stopped, and why.
type warden struct {
	*journal
	stopped map[string]string
}

func (w *warden) Quarantine(ctx context.Context, device, reason string, e audit.Event) error {
	if err := w.Append(ctx, e); err != nil {
		return err
	}
	w.stopped[device] = reason
	return nil
}

func byDevice(id string) policy.Request {
	q := question(policy.RenewCertificate)
	q.Subject = policy.Entity{Type: "device", ID: id}
	return q
}

const denyAndStop = `{"verdict": "deny", "reasons": [{"code": "baseline_mismatch", "detail": "PCR 4 differs"}], "obligations": [{"type": "quarantine"}]}`

func TestQuarantineOfADeny(t *testing.T) {
	for name, c := range map[string]struct {
		decision string
		q        policy.Request
		warded   bool
		stopped  bool
		code     string
	}{
		"its own":         {denyAndStop, byDevice("gw-1"), true, true, "baseline_mismatch"},
		"nobody does it":  {denyAndStop, byDevice("gw-1"), false, false, "baseline_mismatch"},
		"asked by a user": {denyAndStop, question(policy.ReleaseDevice), true, false, "baseline_mismatch"},
		"by another":      {denyAndStop, byDevice("gw-2"), true, false, "baseline_mismatch"},
		"by an unproven":  {denyAndStop, byDevice(""), true, false, "baseline_mismatch"},
		"a plain deny":    {deny, byDevice("gw-1"), true, false, "too_late"},
		"with an allow":   {strings.Replace(denyAndStop, `"deny"`, `"allow"`, 1), byDevice("gw-1"), true, false, "misplaced_obligation"},
		"with a hold":     {strings.Replace(denyAndStop, `"deny"`, `"hold"`, 1), byDevice("gw-1"), true, false, "misplaced_obligation"},
		"an unknown as well": {strings.Replace(denyAndStop, `[{"type": "quarantine"}]`, `[{"type": "quarantine"}, {"type": "sing"}]`, 1),
			byDevice("gw-1"), true, false, "unknown_obligation"},
	} {
		p, j := newPoint(t, c.decision)
		w := &warden{journal: j, stopped: map[string]string{}}
		if c.warded {
			p.Warden = w
		}
		d, err := policy.Decide(t.Context(), p, c.q)
		if err != nil {
			t.Fatal(err)
		}
		if d.Verdict() != policy.Deny || d.Reasons()[0].Code != c.code {
			t.Errorf("%s: %v %v", name, d.Verdict(), d.Reasons())
		}
		if reason, stopped := w.stopped["gw-1"]; stopped != c.stopped || stopped && reason != "baseline_mismatch: PCR 4 differs" {
			t.Errorf("%s: stopped %v", name, w.stopped)
		}
		if len(j.events) != 1 || j.events[0].Outcome != audit.Refused || j.events[0].ID != d.ID() {
			t.Errorf("%s: %d events", name, len(j.events))
		}
	}
}

func TestConfine(t *testing.T) {
	p, j := newPoint(t, allow)
	w := &warden{journal: j, stopped: map[string]string{}}
	p.Warden = w
	cause := fault.New(fault.Denied, "clock_rollback", "the TPM's clock went back")
	err := policy.Confine(t.Context(), p, byDevice("gw-1"), cause)
	if refused := fault.Of(err); refused.Code != "clock_rollback" || refused.Ref == "" || cause.Ref != "" {
		t.Errorf("got %+v", refused)
	}
	if w.stopped["gw-1"] != "clock_rollback: the TPM's clock went back" {
		t.Errorf("stopped %v", w.stopped)
	}
	if text := string(j.events[0].Decision); !strings.Contains(text, `"obligations":[{"type":"quarantine"}],"policy":"builtin"`) {
		t.Errorf("the record says %s", text)
	}
	if again := policy.Confine(t.Context(), p, byDevice("gw-1"), fault.Of(err)); again != error(fault.Of(err)) || len(j.events) != 1 {
		t.Errorf("what is recorded already: %v, %d events", again, len(j.events))
	}
	claimed := byDevice("")
	if err := policy.Confine(t.Context(), p, claimed, cause); !fault.Is(err, fault.Denied) || len(j.events) != 2 || len(w.stopped) != 1 {
		t.Errorf("a stranger who claims to be the device: %v, %v", err, w.stopped)
	}
	if text := string(j.events[1].Decision); strings.Contains(text, "quarantine") {
		t.Errorf("the record says %s", text)
	}
	j.broken = true
	if err := policy.Confine(t.Context(), p, byDevice("gw-3"), cause); !fault.Is(err, fault.Busy) || w.stopped["gw-3"] != "" {
		t.Errorf("without a record: %v, %v", err, w.stopped)
	}
}
