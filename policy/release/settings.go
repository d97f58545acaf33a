package release

import (
	"encoding/json"
	"math"
	"time"
)

// Bounds of data.settings.approvals.
const (
	fewestApprovals = 1
	mostApprovals   = 20
)

// approvalsNeeded is data.settings.approvals of the rules in force: how many
// others have to agree to a change of the rules. It is never below one.
func approvalsNeeded(settings map[string]any) int {
	n, ok := numberOf(settings["approvals"])
	if !ok {
		return fewestApprovals
	}
	return int(min(max(n, fewestApprovals), mostApprovals))
}

// band is what the refusals of a trial have to stay within: data.settings.fallback of the rules in force.
type band struct {
	factor  float64 // times the refusals of the rules in force, in the last hour
	points  float64 // of a hundred above them
	least   int64   // decisions below which nothing is judged
	refused int64   // refusals below which nothing is judged
}

// bandOf reads {"factor": 3, "points": 2, "decisions": 50, "refusals": 3}; what is
// missing or no number keeps these defaults.
func bandOf(settings map[string]any) band {
	b := band{factor: 3, points: 2, least: 50, refused: 3}
	given, _ := settings["fallback"].(map[string]any)
	for name, to := range map[string]*float64{"factor": &b.factor, "points": &b.points} {
		if n, ok := numberOf(given[name]); ok && n >= 0 {
			*to = n
		}
	}
	for name, to := range map[string]*int64{"decisions": &b.least, "refusals": &b.refused} {
		if n, ok := numberOf(given[name]); ok && n >= 1 {
			*to = int64(n)
		}
	}
	return b
}

// left reports whether the trial's rate has left the band that the rate of the
// rules in force gives, by more than chance would explain.
func (b band) left(trial, active *rate, now time.Time) bool {
	asked, refused := trial.over(recently, now)
	if asked < b.least || refused < b.refused {
		return false
	}
	share, usual := float64(refused)/float64(asked), 0.0
	before, denied := active.over(longest, now)
	if before > 0 {
		usual = float64(denied) / float64(before)
	}
	if share <= b.factor*usual && share <= usual+b.points/100 {
		return false
	}
	return before == 0 || deviates(asked, refused, before, denied)
}

// chance is how many standard deviations two shares have to be apart: what is
// less happens by itself once in some hundred looks, and a trial is looked at every second.
const chance = 3.5

// deviates reports whether two shares differ by more than chance (the z-test of two proportions).
func deviates(asked, refused, before, denied int64) bool {
	n, m := float64(asked), float64(before)
	pooled := float64(refused+denied) / (n + m)
	spread := math.Sqrt(pooled * (1 - pooled) * (1/n + 1/m))
	return spread == 0 || math.Abs(float64(refused)/n-float64(denied)/m) > chance*spread
}

func numberOf(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}
