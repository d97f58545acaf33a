package release

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// rate counts answers, and remembers how many there were at which time for the last hour.
type rate struct {
	asked, refused atomic.Int64

	mu      sync.Mutex
	samples []sample // oldest first
}

// sample is how far the counts had come at a time.
type sample struct {
	at             time.Time
	asked, refused int64
}

// What rates go by.
const (
	every    = 10 * time.Second // between samples
	longest  = time.Hour        // how far samples go back
	recently = 5 * time.Minute  // what a trial is judged by
)

func newRate(now func() time.Time) *rate {
	return &rate{samples: []sample{{at: now()}}}
}

// count takes an answer in.
func (r *rate) count(v policy.Verdict, err error) {
	r.asked.Add(1)
	if v == policy.Deny || err != nil {
		r.refused.Add(1)
	}
}

// over returns how many questions were asked and refused in the time before now.
func (r *rate) over(window time.Duration, now time.Time) (asked, refused int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := r.samples[0]
	for _, s := range r.samples {
		if now.Sub(s.at) < window {
			break
		}
		from = s
	}
	return r.asked.Load() - from.asked, r.refused.Load() - from.refused
}

// sample remembers the counts.
func (r *rate) sample(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.samples); n > 0 && now.Sub(r.samples[n-1].at) < every {
		return
	}
	for len(r.samples) > 1 && now.Sub(r.samples[1].at) >= longest {
		r.samples = r.samples[1:]
	}
	r.samples = append(r.samples, sample{now, r.asked.Load(), r.refused.Load()})
}
