package attest

import (
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// Bounds of what a document lists: it goes to the rules and into the record
// with every decision, and a device chooses how long its event log is.
const (
	maxListed      = 64 // digests of one kind, and events of one difference
	maxDifferences = 24 // registers: more than a TPM has
)

// Document returns the appraisal as rules and the record see it: what is known,
// and nothing where nothing is. Bytes are lower-case hex, times audit.TimeFormat. The zero
// Result, and a nil one, is {"verdict": "none"}.
func (r *Result) Document() policy.Properties {
	if r == nil {
		return policy.Properties{"verdict": None.String()}
	}
	d := policy.Properties{"verdict": r.Verdict.String()}
	if r.Case != "" { // evidence that was refused is of no case
		d["case"], d["fresh"] = string(r.Case), r.Fresh
	}
	if r.AK.SHA256 != "" {
		d["ak"] = filled(map[string]any{"sha256": r.AK.SHA256, "name": hex.EncodeToString(r.AK.Name), "chain": r.AK.Anchor})
	}
	if r.EK.SHA256 != "" {
		d["ek"] = r.EK.document()
	}
	if r.Key.Resident {
		d["key"] = map[string]any{"name": hex.EncodeToString(r.Key.Name), "tpm_resident": true, "fixed": r.Key.Fixed, "restricted": false}
		d["boot"] = r.Boot.document()
	}
	if r.PCR.Bank != "" {
		d["pcr"] = r.PCR.document()
	}
	if r.Clock != (Clock{}) {
		d["clock"] = r.Clock.document()
	}
	if len(r.Reasons) > 0 {
		d["reasons"] = words(r.Reasons)
	}
	if len(r.Advisories) > 0 {
		d["advisories"] = advisories(r.Advisories)
	}
	if r.Evidence != ([32]byte{}) {
		d["evidence_sha256"] = hex.EncodeToString(r.Evidence[:])
	}
	if r.EventLog != ([32]byte{}) {
		d["event_log_sha256"] = hex.EncodeToString(r.EventLog[:])
	}
	if !r.AppraisedAt.IsZero() {
		d["appraised_at"] = r.AppraisedAt.UTC().Format(audit.TimeFormat)
	}
	return d
}

// filled drops members that are empty strings.
func filled(m map[string]any) map[string]any {
	for name, value := range m {
		if value == "" {
			delete(m, name)
		}
	}
	return m
}

func (k *EndorsementKey) document() map[string]any {
	return filled(map[string]any{
		"sha256": k.SHA256, "manufacturer": k.Manufacturer, "model": k.Model, "version": k.Version,
		"chain": k.Anchor, "certificate_sha256": k.Certificate, "trusted": k.Trusted, "untrusted_because": k.Untrusted,
	})
}

func (p *PCRs) document() map[string]any {
	values := make(map[string]any, len(p.Values))
	for n, value := range p.Values {
		values[strconv.Itoa(n)] = hex.EncodeToString(value)
	}
	return map[string]any{"bank": p.Bank, "values": values, "digest": hex.EncodeToString(p.Digest)}
}

// document writes the firmware version in hex, since a number of its size
// loses its last digits in JSON.
func (c *Clock) document() map[string]any {
	return map[string]any{
		"clock": clamp(c.Clock), "reset": int64(c.Reset), "restart": int64(c.Restart), "safe": c.Safe,
		"firmware": strconv.FormatUint(c.Firmware, 16),
	}
}

// clamp is n as a record can write it: JSON has no larger whole number.
func clamp(n uint64) int64 { return int64(min(n, 1<<53)) }

func (b *Boot) document() map[string]any {
	d := filled(map[string]any{"log_replayed": b.LogReplayed, "fw_match": b.Baseline})
	if b.SecureBoot != nil {
		d["secure_boot"] = *b.SecureBoot
	}
	for name, digests := range map[string][]string{"boot_loader": b.BootLoader, "kernel": b.Kernel} {
		if len(digests) > 0 {
			d[name] = first(digests, maxListed)
		}
	}
	if len(b.Changed) > 0 {
		changed := make([]any, len(b.Changed))
		for i, n := range b.Changed {
			changed[i] = n
		}
		d["changed"] = changed
	}
	if len(b.Differences) > 0 {
		var differences []any
		for i := range first(b.Differences, maxDifferences) {
			differences = append(differences, b.Differences[i].document())
		}
		d["differences"] = differences
	}
	return d
}

func (d *Difference) document() map[string]any {
	out := map[string]any{"pcr": d.PCR, "got": d.Got}
	if len(d.Expected) > 0 {
		out["expected"] = first(d.Expected, maxListed)
	}
	if len(d.Missing) > 0 {
		out["missing"] = first(d.Missing, maxListed)
	}
	var events []any
	for _, e := range first(d.Events, maxListed) {
		events = append(events, filled(map[string]any{"index": e.Index, "type": e.Type, "digest": e.Digest, "description": e.Says}))
	}
	if events != nil {
		out["events"] = events
	}
	return out
}

// first returns up to n of the list.
func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

func words(reasons []Reason) []string {
	out := make([]string, 0, len(reasons))
	for _, r := range reasons {
		if !slices.Contains(out, string(r)) {
			out = append(out, string(r))
		}
	}
	return out
}

func advisories(list []Advisory) []any {
	out := make([]any, len(list))
	for i, a := range list {
		out[i] = map[string]any{"id": a.ID, "action": a.Action, "text": a.Says}
	}
	return out
}
