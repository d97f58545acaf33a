package release_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// packOf is the default pack with something added to its rules.
func packOf(t testing.TB, more string) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "policy")
	must(t, os.CopyFS(dir, rego.Default()))
	if more != "" {
		write(t, filepath.Join(dir, "more.rego"), "package hallmark\n\n"+more+"\n")
	}
	b, err := rego.ReadDir(dir)
	must(t, err)
	packed, err := b.Pack(nil)
	must(t, err)
	return packed
}

// longRecord makes decisions as devices in the field ask for them.
type longRecord struct {
	at     time.Time
	digest string
}

// write puts n of them into the database, as many at a time as make full transactions.
func (r longRecord) write(b *testing.B, db *store.DB, n int) {
	b.Helper()
	var clients sync.WaitGroup
	next := make(chan int, 256)
	for range 256 {
		clients.Go(func() {
			for i := range next {
				if err := db.Append(b.Context(), r.event(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for i := 1; i <= n && !b.Failed(); i++ {
		next <- i
	}
	close(next)
	clients.Wait()
}

func (r longRecord) event(n int) audit.Event {
	q := policy.Request{Subject: policy.Entity{Type: "device", ID: fmt.Sprintf("gw-%d", n), Properties: policy.Properties{"auth": map[string]any{"method": "certificate", "serial": "5e5e5e5e5e5e5e5e"}}},
		Action: policy.RenewCertificate,
		Parameters: policy.Properties{"door": "est", "operation": "reenroll", "renewal": true, "server_keygen": false, "profile": "default", "lifetime_s": int64(604800),
			"key": map[string]any{"algorithm": "ECDSA", "bits": 256, "sha256": fmt.Sprintf("%064d", n), "same": true}},
		Resource: policy.Entity{Type: "device", ID: fmt.Sprintf("gw-%d", n), Properties: policy.Properties{"known": true, "state": "active", "model": "GW-100", "serial": fmt.Sprint(n), "batch": "b7", "labels": map[string]any{"site": "oslo"}}},
		Context: policy.Properties{"attestation": map[string]any{"verdict": "none", "assurance": "none", "reasons": []string{}},
			"profile": map[string]any{"channel_binding": false, "evidence": "optional", "evidence_on_renew": false}},
		At: r.at, Source: "192.0.2.7", RequestID: "q1"}
	return audit.Event{ID: audit.NewID(r.at), At: r.at, Action: string(q.Action), Actor: audit.Party{Type: "device", ID: q.Subject.ID}, Object: audit.Party{Type: "device", ID: q.Resource.ID},
		Outcome: audit.Granted, Decision: audit.AppendCanonical(nil, map[string]any{"input": q.Document(), "policy": r.digest, "verdict": "allow"})}
}

// BenchmarkReplay replays one recorded decision of the default pack per
// operation, out of an embedded database: -benchtime 1000000x is the record of a
// large fleet. It prints how much memory the process had at most meanwhile.
func BenchmarkReplay(b *testing.B) {
	w := newWorld(b, packOf(b, ""))
	w.point.Engine = yes{}
	id := audit.NewID(w.clock()).String()
	_, err := w.Propose(b.Context(), w.permit("ada", policy.ProposePolicy, id), release.Draft{ID: id,
		Bundle: packOf(b, `deny contains {"code": "unlucky", "detail": "ends in 777"} if endswith(input.resource.id, "777")`)})
	must(b, err)
	longRecord{at: w.clock().Add(-time.Hour), digest: w.Running.Digest()}.write(b, w.db, b.N)
	runtime.GC()
	var most uint64
	used := cpu(b)
	b.ResetTimer()
	p, err := w.Replay(b.Context(), w.permit("ada", policy.ReplayPolicy, id), id, release.Period{}, func(release.Progress) {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapInuse)
	})
	must(b, err)
	b.ReportMetric(float64(most)/(1<<20), "MiB-heap")
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
	if p.Replay.Recorded.Asked != b.N || p.Replay.Recorded.Total(release.AllowToDeny) != b.N/1000+(b.N%1000)/777 {
		b.Errorf("asked %d of %d, %d differ: %+v", p.Replay.Recorded.Asked, b.N, p.Replay.Recorded.Total(release.AllowToDeny), p.Replay.Recorded.Totals)
	}
}

// cpu is how much processor time this process has used: what others do on the machine does not count.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// yes allows everything: a benchmark's operator needs no roles.
type yes struct{}

func (yes) Evaluate(context.Context, map[string]any) (policy.Answer, error) {
	return policy.Answer{Verdict: policy.Allow}, nil
}

// BenchmarkEvaluate compares a question to the rules alone with one through Running.
func BenchmarkEvaluate(b *testing.B) {
	w := newWorld(b, packOf(b, ""))
	alone, err := release.Rego{}.Load(b.Context(), packOf(b, ""))
	must(b, err)
	document := asks("gw-1", w.clock())
	for name, engine := range map[string]policy.Engine{"alone": alone, "running": w.Running} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := engine.Evaluate(b.Context(), document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
