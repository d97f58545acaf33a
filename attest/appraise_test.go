package attest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// TestMismatch shows what a technician is told: the register, the event, and
// what was expected of which baseline.
func TestMismatch(t *testing.T) {
	h, good := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	old := good.baseline("sha256")
	old.Firmware = "0.9"
	old.PCRs["sha256"][0] = []string{strings.Repeat("00", 32)}
	old.PCRs["sha256"][9] = []string{strings.Repeat("00", 32)}
	h.active(old)
	b := h.active(good.baseline("sha256"))
	evil := boot(t, "1.0", true, "evil shim", "linux")
	r := evil.result("sha256", true)
	err := h.appraise(r, nil)
	wantCode(t, err, "baseline_mismatch")
	digest := sha256.Sum256([]byte("evil shim"))
	event := hex.EncodeToString(digest[:])
	for _, want := range []string{"PCR 4 is ", "EV_EFI_BOOT_SERVICES_APPLICATION " + event[:16], "expected " + b.PCRs["sha256"][4][0][:16], b.ID, "(1.0)"} {
		if !strings.Contains(fault.Of(err).Says, want) {
			t.Errorf("%q is not in %q", want, fault.Of(err).Says)
		}
	}
	if r.Verdict != attest.Contraindicated || len(r.Boot.Differences) != 1 || r.Boot.Baseline != "" {
		t.Fatalf("%+v", r.Boot)
	}
	d := r.Boot.Differences[0]
	honest := sha256.Sum256([]byte("shim"))
	if d.PCR != 4 || d.Got != hex.EncodeToString(evil.tpm.PCR("sha256", 4)) || len(d.Events) != 1 || d.Events[0].Digest != event ||
		!slices.Equal(d.Missing, []string{hex.EncodeToString(honest[:])}) {
		t.Errorf("%+v", d)
	}
	withoutLog := evil.result("sha256", false)
	err = h.appraise(withoutLog, nil)
	wantCode(t, err, "baseline_mismatch")
	if d := withoutLog.Boot.Differences[0]; d.PCR != 4 || d.Events != nil || d.Missing != nil {
		t.Errorf("explained without a log: %+v", d)
	}
	if !attest.BaselineMismatch.Quarantines() || !attest.BaselineDenied.Quarantines() {
		t.Error("who boots what it should not goes on as before")
	}
}

// TestAppraise is every way in which a baseline can count.
func TestAppraise(t *testing.T) {
	good, evil := boot(t, "1.0", true, "shim", "linux"), boot(t, "1.0", false, "evil shim", "linux")
	yes, no := true, false
	now := time.Now()
	base := func(change func(*attest.Baseline)) attest.Baseline {
		b := good.baseline("sha256")
		change(&b)
		return b
	}
	rules := func(l attest.LogRules) attest.Baseline { return attest.Baseline{Model: "GW-1", Firmware: "r", Log: l} }
	const active, denied, canary, deprecated = attest.Active, attest.Rejected, attest.Canary, attest.Deprecated
	for name, c := range map[string]struct {
		baseline attest.Baseline
		state    attest.BaselineState
		result   *attest.Result
		code     string // empty: accepted
		verdict  attest.Verdict
	}{
		"as it should be":             {base(func(*attest.Baseline) {}), active, good.result("sha256", true), "", attest.Affirming},
		"without a log":               {base(func(*attest.Baseline) {}), active, good.result("sha256", false), "", attest.Affirming},
		"with a worse verdict before": {base(func(*attest.Baseline) {}), active, worse(good.result("sha256", false)), "", attest.Warning},
		"one of several values": {base(func(b *attest.Baseline) {
			b.PCRs["sha256"][4] = append([]string{strings.Repeat("11", 32)}, b.PCRs["sha256"][4]...)
		}), active, good.result("sha256", false), "", attest.Affirming},
		"not as it should be":           {base(func(*attest.Baseline) {}), active, evil.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"nor as it was":                 {base(func(*attest.Baseline) {}), deprecated, evil.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"a register less is looked at":  {base(func(b *attest.Baseline) { delete(b.PCRs["sha256"], 4); delete(b.PCRs["sha256"], 7) }), active, evil.result("sha256", true), "", attest.Affirming},
		"a register not quoted":         {base(func(b *attest.Baseline) { b.PCRs["sha256"][23] = b.PCRs["sha256"][4] }), active, good.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"another bank":                  {base(func(*attest.Baseline) {}), active, good.result("sha384", true), "pcr_selection", attest.None},
		"no quote":                      {base(func(*attest.Baseline) {}), active, &attest.Result{}, "evidence_required", attest.None},
		"no quote, a denied one":        {base(func(*attest.Baseline) {}), denied, &attest.Result{}, "evidence_required", attest.None},
		"denied":                        {base(func(*attest.Baseline) {}), denied, good.result("sha256", true), "baseline_denied", attest.Contraindicated},
		"denied, of another bank":       {base(func(*attest.Baseline) {}), denied, good.result("sha384", true), "pcr_selection", attest.None},
		"something else is denied":      {base(func(*attest.Baseline) {}), denied, evil.result("sha256", true), "", attest.None},
		"denied is denied for good":     {base(func(b *attest.Baseline) { b.ValidUntil = now.Add(-time.Hour) }), denied, good.result("sha256", true), "baseline_denied", attest.Contraindicated},
		"not valid yet":                 {base(func(b *attest.Baseline) { b.ValidFrom = now.Add(time.Hour) }), active, evil.result("sha256", true), "", attest.None},
		"not valid any more":            {base(func(b *attest.Baseline) { b.ValidUntil = now.Add(-time.Hour) }), active, good.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"of another model":              {base(func(b *attest.Baseline) { b.Model = "GW-2" }), active, evil.result("sha256", true), "", attest.None},
		"secure boot on":                {rules(attest.LogRules{SecureBoot: &yes}), active, good.result("sha256", true), "", attest.Affirming},
		"secure boot off":               {rules(attest.LogRules{SecureBoot: &yes}), active, evil.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"secure boot off, as it should": {rules(attest.LogRules{SecureBoot: &no}), active, evil.result("sha256", true), "", attest.Affirming},
		"secure boot unknown":           {rules(attest.LogRules{SecureBoot: &yes}), active, good.result("sha256", false), "log_missing", attest.None},
		"booting without is denied":     {rules(attest.LogRules{SecureBoot: &no}), denied, evil.result("sha256", true), "baseline_denied", attest.Contraindicated},
		"and nobody hides it":           {rules(attest.LogRules{SecureBoot: &no}), denied, evil.result("sha256", false), "log_missing", attest.None},
		"measurements allowed":          {rules(attest.LogRules{Allowed: map[int][]string{4: digestsOf(good, 4)}}), active, good.result("sha256", true), "", attest.Affirming},
		"and not allowed":               {rules(attest.LogRules{Allowed: map[int][]string{4: digestsOf(good, 4)}}), active, evil.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"allowed in another bank":       {rules(attest.LogRules{Allowed: map[int][]string{4: digestsOf(good, 4)}}), active, good.result("sha384", true), "pcr_selection", attest.None},
		"allowed in an unquoted one":    {rules(attest.LogRules{Allowed: map[int][]string{14: digestsOf(good, 4)}}), active, good.result("sha256", true), "baseline_mismatch", attest.Contraindicated},
		"a measurement forbidden":       {rules(attest.LogRules{Denied: digestsOf(evil, 4)[1:]}), active, evil.result("sha256", true), "baseline_denied", attest.Contraindicated},
		"forbidden by a denied one":     {rules(attest.LogRules{Denied: digestsOf(evil, 4)[1:]}), denied, evil.result("sha256", true), "baseline_denied", attest.Contraindicated},
		"which forbids nobody else":     {rules(attest.LogRules{Denied: digestsOf(evil, 4)[1:]}), denied, good.result("sha256", true), "", attest.None},
		"nobody hides the log":          {rules(attest.LogRules{Denied: digestsOf(evil, 4)[1:]}), denied, evil.result("sha256", false), "log_missing", attest.None},
		"nor behind another bank":       {rules(attest.LogRules{Denied: digestsOf(evil, 4)[1:]}), denied, evil.result("sha384", true), "pcr_selection", attest.None},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			switch b := h.add(c.baseline); c.state {
			case denied:
				h.deny(b.ID)
			case canary:
				h.activate(b.ID, "ring=canary")
			default:
				h.activate(b.ID, "")
				if c.state == deprecated {
					h.deprecate(b.ID)
				}
			}
			err := h.appraise(c.result, nil)
			if c.code == "" && err != nil {
				t.Fatal(err)
			}
			if c.code != "" {
				wantCode(t, err, c.code)
			}
			if c.result.Verdict != c.verdict {
				t.Errorf("verdict %v, want %v", c.result.Verdict, c.verdict)
			}
		})
	}
}

func worse(r *attest.Result) *attest.Result {
	r.Verdict = attest.Warning
	return r
}

func digestsOf(m *machine, pcr int) []string {
	var digests []string
	for _, e := range m.result("sha256", true).Boot.Events[pcr] {
		digests = append(digests, e.Digest)
	}
	return digests
}

// TestRollout is a firmware update as the guide describes it.
func TestRollout(t *testing.T) {
	h, old, next := newHouse(t), boot(t, "1.0", true, "shim", "linux 6.12"), boot(t, "2.0", true, "shim", "linux 6.18")
	h.active(old.baseline("sha256"))
	wantCode(t, h.appraise(next.result("sha256", true), nil), "baseline_mismatch")
	b := h.add(next.baseline("sha256"))
	h.activate(b.ID, "ring=canary")
	if err := h.appraise(next.result("sha256", true), nil, "ring=canary"); err != nil {
		t.Fatal(err)
	}
	if err := h.appraise(old.result("sha256", true), nil, "ring=canary"); err != nil {
		t.Fatalf("a canary that has not updated yet: %v", err)
	}
	wantCode(t, h.appraise(next.result("sha256", true), nil, "ring=main"), "baseline_mismatch")
	h.activate(b.ID, "")
	for _, m := range []*machine{old, next} {
		r := m.result("sha256", true)
		if err := h.appraise(r, nil); err != nil || r.Verdict != attest.Affirming {
			t.Fatalf("%v, %v", r.Verdict, err)
		}
	}
	h.deny(b.ID)
	wantCode(t, h.appraise(next.result("sha256", true), nil), "baseline_denied")
}

// TestJudgeable has two baselines, of which one cannot be held against the evidence.
func TestJudgeable(t *testing.T) {
	h, good, evil := newHouse(t), boot(t, "1.0", true, "shim", "linux"), boot(t, "1.0", true, "evil", "linux")
	yes := true
	h.active(good.baseline("sha256"))
	h.active(good.baseline("sha384"))
	wantCode(t, h.appraise(evil.result("sha256", true), nil), "baseline_mismatch")
	wantCode(t, h.appraise(evil.result("sha384", true), nil), "baseline_mismatch")
	if err := h.appraise(good.result("sha384", true), nil); err != nil {
		t.Fatal(err)
	}
	h.active(attest.Baseline{Model: "GW-1", Log: attest.LogRules{SecureBoot: &yes, Allowed: map[int][]string{4: digestsOf(good, 4)}}})
	wantCode(t, h.appraise(evil.result("sha256", false), nil), "log_missing") // it may be of the third kind
	wantCode(t, h.appraise(evil.result("sha256", true), nil), "baseline_mismatch")
}

// TestWithoutBaseline holds a boot against the device's last.
func TestWithoutBaseline(t *testing.T) {
	h, last, now := newHouse(t), boot(t, "1.0", true, "shim", "linux"), boot(t, "1.0", true, "shim", "linux 2")
	h.attest("gw-1", last, attest.None)
	bond, err := h.db.Bond(context.Background(), "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	if r := last.result("sha256", true); h.appraise(r, nil) != nil || r.Verdict != attest.None || r.Boot.Changed != nil {
		t.Errorf("the first time: %+v", r.Boot)
	}
	if r := last.result("sha256", true); h.appraise(r, &bond) != nil || r.Verdict != attest.None || r.Boot.Changed != nil {
		t.Errorf("as before: %v %+v", r.Verdict, r.Boot.Changed)
	}
	r := now.result("sha256", true)
	if err := h.appraise(r, &bond); err != nil || r.Verdict != attest.Warning || !slices.Equal(r.Boot.Changed, []int{9}) {
		t.Fatalf("changed: %v, %v, %+v", err, r.Verdict, r.Boot.Changed)
	}
	if d := r.Boot.Differences[0]; len(d.Events) != 1 || len(d.Missing) != 1 || !strings.HasPrefix(d.Says(), "PCR 9 is ") {
		t.Errorf("%+v", d)
	}
	r = now.result("sha256", false)
	if err := h.appraise(r, &bond); err != nil || r.Boot.Differences[0].Events != nil {
		t.Errorf("without a log: %v, %+v", err, r.Boot.Differences)
	}
	r = last.result("sha384", true)
	if err := h.appraise(r, &bond); err != nil || r.Verdict != attest.Warning || len(r.Boot.Changed) != len(quoted) {
		t.Errorf("another bank shows nothing, so everything has changed: %v, %+v", err, r.Boot.Changed)
	}
	delete(bond.PCRs, 9)
	if r := now.result("sha256", true); h.appraise(r, &bond) != nil || r.Verdict != attest.None {
		t.Errorf("a register that was not quoted before: %+v", r.Boot.Changed)
	}
	if r := (&attest.Result{}); h.appraise(r, &bond) != nil || r.Verdict != attest.None {
		t.Error("without a quote")
	}
}

// TestDifferencesAreBounded: a device chooses how long its log is, and the record
// keeps what differs.
func TestDifferencesAreBounded(t *testing.T) {
	h, good := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	h.active(good.baseline("sha256"))
	odd := boot(t, "1.0", true, "shim", "linux")
	for i := range 2000 {
		what := fmt.Appendf(nil, "measurement %d", i)
		odd.log.Measure(odd.tpm, i%10, forge.EventTag, what, bytes.Repeat([]byte("x"), 40))
	}
	r := odd.result("sha256", true)
	wantCode(t, h.appraise(r, nil), "baseline_mismatch")
	events := 0
	for _, d := range r.Boot.Differences {
		events += len(d.Events)
	}
	if len(r.Boot.Differences) != 10 || events == 0 || events > 32 {
		t.Errorf("%d differences, %d events", len(r.Boot.Differences), events)
	}
}

// TestCanaryWithoutActive: a canary's devices have to match; for the others there is no baseline.
func TestCanaryWithoutActive(t *testing.T) {
	h, good, other := newHouse(t), boot(t, "1.0", true, "shim", "linux"), boot(t, "1.0", true, "shim", "another")
	h.activate(h.add(good.baseline("sha256")).ID, "ring=canary")
	wantCode(t, h.appraise(other.result("sha256", true), nil, "ring=canary"), "baseline_mismatch")
	if err := h.appraise(other.result("sha256", true), nil, "ring=other"); err != nil {
		t.Fatal(err)
	}
}
