package attest

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Appraise holds verified evidence against the baselines of the device's
// model, and against the device's own last boot where the model has none. It
// sets the verdict, never a better one than there was, and Boot's Baseline, Changed and Differences.
//
// Errors refuse: baseline_denied and baseline_mismatch, which quarantine; and where baselines
// are in force that ask for it, evidence_required for a device without a quote, log_missing
// for one without an event log and pcr_selection for a quote of another bank.
func (s *Baselines) Appraise(ctx context.Context, model string, labels map[string]string, r *Result, bond *Bond) error {
	r.Boot.Baseline, r.Boot.Changed, r.Boot.Differences = "", nil, nil
	inForce, err := s.inForce(ctx, model)
	if err != nil {
		return err
	}
	now := s.Now()
	allowed, denied := applicable(inForce, labels, now)
	if len(r.PCR.Values) == 0 && len(allowed)+len(denied) > 0 {
		return Refuse(EvidenceRequired, fmt.Sprintf("baselines are in force for model %s: the device has to quote what it booted", model))
	}
	quoted := quotedHex(&r.PCR)
	if err := refuseDenied(allowed, denied, r, quoted); err != nil {
		return err
	}
	if len(allowed) == 0 {
		return s.compareWithBond(ctx, r, bond)
	}
	return matchOne(allowed, r, quoted, now)
}

// matchOne finds the baseline that the device booted, or refuses it.
func matchOne(allowed []Baseline, r *Result, quoted map[int]string, now time.Time) error {
	judged, missing := judgeable(allowed, r)
	best := nearest(judged, r, quoted, now)
	switch {
	case best.baseline != nil && best.matches():
		r.Boot.Baseline = best.baseline.ID
		if best.baseline.State == Deprecated {
			r.Verdict = max(r.Verdict, Warning)
		}
		r.Verdict = max(r.Verdict, Affirming)
		return nil
	case missing != nil: // it may well have booted what cannot be judged: nobody is quarantined for that
		return missing
	}
	r.Boot.Differences = explained(best.differences)
	r.Verdict = Contraindicated
	return Refuse(BaselineMismatch, best.says())
}

// applicable are the baselines that count for a device with these labels at
// that time. One that is not valid yet does not count; one that is not valid any more
// does, and matches nothing. What is denied is denied for good.
func applicable(inForce []Baseline, labels map[string]string, now time.Time) (allowed, denied []Baseline) {
	for _, b := range inForce {
		name, value, _ := strings.Cut(b.Canary, "=")
		has, labelled := labels[name]
		switch {
		case b.State == Rejected:
			denied = append(denied, b)
		case now.Before(b.ValidFrom):
		case b.State == Active, b.State == Deprecated, b.State == Canary && labelled && has == value:
			allowed = append(allowed, b)
		}
	}
	return allowed, denied
}

// refuseDenied refuses what a denied baseline describes, and a measurement
// that any baseline in force forbids. Where that cannot be told it refuses, too: leaving
// out the log, or quoting another bank, is no way round a denial.
func refuseDenied(allowed, denied []Baseline, r *Result, quoted map[int]string) error {
	for _, b := range slices.Concat(denied, allowed) {
		if len(b.Log.Denied) == 0 {
			continue
		}
		if err := b.needs(r); err != nil {
			return err
		}
		if pcr, e, found := forbidden(&b, r); found {
			r.Boot.Baseline, r.Verdict = b.ID, Contraindicated
			return Refuse(BaselineDenied, fmt.Sprintf("PCR %d measured what %s forbids: event %d %s %s", pcr, b.name(), e.Index, e.Type, shorten(e.Digest)))
		}
	}
	for _, b := range denied {
		if !b.describes() {
			continue
		}
		if err := b.needs(r); err != nil {
			return err
		}
		if len(differences(&b, r, quoted)) == 0 {
			r.Boot.Baseline, r.Verdict = b.ID, Contraindicated
			says := fmt.Sprintf("the device booted %s, which is denied", b.name())
			if b.Why != "" {
				says += ": " + b.Why
			}
			return Refuse(BaselineDenied, says)
		}
	}
	return nil
}

// judgeable are the baselines that the evidence can be held against, and why
// others cannot be.
func judgeable(allowed []Baseline, r *Result) (judged []Baseline, missing error) {
	var otherBank error
	for _, b := range allowed {
		switch err := b.needs(r); {
		case err == nil:
			judged = append(judged, b)
		case fault.Of(err).Code == string(LogMissing):
			missing = err
		default:
			otherBank = err
		}
	}
	if len(judged) == 0 && missing == nil {
		missing = otherBank
	}
	return judged, missing
}

// needs refuses evidence that lacks what b is about: a log, or digests of its bank.
func (b *Baseline) needs(r *Result) error {
	size := bankSize(r.PCR.Bank)
	other := len(b.PCRs) > 0 && b.PCRs[r.PCR.Bank] == nil
	for _, digests := range b.Log.Allowed {
		other = other || !slices.ContainsFunc(digests, func(d string) bool { return len(d) == 2*size })
	}
	if len(b.Log.Denied) > 0 {
		other = other || !slices.ContainsFunc(b.Log.Denied, func(d string) bool { return len(d) == 2*size })
	}
	switch {
	case other:
		return Refuse(PCRSelection, fmt.Sprintf("%s says nothing of bank %s, which was quoted", b.name(), r.PCR.Bank))
	case !r.Boot.LogReplayed && (b.Log.SecureBoot != nil || len(b.Log.Allowed) > 0 || len(b.Log.Denied) > 0):
		return Refuse(LogMissing, fmt.Sprintf("%s has rules over the event log: the device has to send it", b.name()))
	}
	return nil
}

// describes reports whether b says what a device boots, and not only what
// nobody may.
func (b *Baseline) describes() bool {
	return len(b.PCRs) > 0 || len(b.Log.Allowed) > 0 || b.Log.SecureBoot != nil
}

// forbidden finds a measurement that b's list of denied digests has.
func forbidden(b *Baseline, r *Result) (int, Event, bool) {
	for pcr := range 24 {
		for _, e := range r.Boot.Events[pcr] {
			if slices.Contains(b.Log.Denied, e.Digest) {
				return pcr, e, true
			}
		}
	}
	return 0, Event{}, false
}

// name is what refusals call the baseline.
func (b *Baseline) name() string {
	if b.Firmware == "" {
		return "baseline " + b.ID
	}
	return fmt.Sprintf("baseline %s (%s)", b.ID, b.Firmware)
}

// quotedHex are the quoted registers as baselines write them.
func quotedHex(p *PCRs) map[int]string {
	values := make(map[int]string, len(p.Values))
	for pcr, value := range p.Values {
		values[pcr] = hex.EncodeToString(value)
	}
	return values
}

// shorten is the beginning of a digest, enough for a person to compare.
func shorten(digest string) string {
	if len(digest) <= 16 {
		return digest
	}
	return digest[:16] + "…"
}
