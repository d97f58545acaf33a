package release

import (
	"encoding/json"
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

// left reports whether the trial's rate has left the band that the rate of the rules in force gives.
func (b band) left(trial, active *rate, now time.Time) bool {
	asked, refused := trial.over(recently, now)
	if asked < b.least || refused < b.refused {
		return false
	}
	share := float64(refused) / float64(asked)
	usual := 0.0
	if before, denied := active.over(longest, now); before > 0 {
		usual = float64(denied) / float64(before)
	}
	return share > b.factor*usual || share > usual+b.points/100
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
