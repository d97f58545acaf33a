package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// million is how many entries BenchmarkDecisions makes; HALLMARK_ENTRIES says otherwise.
func million(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("HALLMARK_ENTRIES"))
	if err != nil {
		return 1_000_000
	}
	return n
}

// decided makes a record as a busy day leaves it: 100 entries a second, of which one in 200 is
// a refusal, one in 500 what one of eight people did, and the rest renewals of 50,000 devices.
func decided(b *testing.B, db *store.DB, n int) (last time.Time) {
	random := rand.New(rand.NewPCG(5, 6))
	start := storetest.Now
	work := make(chan audit.Event, 256)
	done := make(chan error, 64)
	for range 64 { // so that they share transactions
		go func() {
			var failed error
			for e := range work {
				if err := db.Append(b.Context(), e); err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for i := range n {
		last = start.Add(time.Duration(i) * 10 * time.Millisecond)
		device := fmt.Sprintf("gw-%05d", random.IntN(50_000))
		e := audit.Event{ID: audit.NewID(last), At: last, Action: "certificate.renew", Outcome: audit.Granted, Source: "10.1.2.3", Request: strconv.Itoa(i),
			Actor: audit.Party{Type: "device", ID: device}, Object: audit.Party{Type: "device", ID: device},
			Decision: json.RawMessage(fmt.Sprintf(`{"input":{"action":{"name":"certificate.renew","properties":{"door":"est","key":{"algorithm":"ECDSA","bits":256,"sha256":"%064x"},"lifetime_s":86400,"operation":"reenroll","profile":"device","renewal":true}},"context":{"attestation":null,"ip":"10.1.2.3","request_id":"%d","time":%q},"resource":{"id":%q,"properties":{"batch":"2026-11","known":true,"model":"m1","state":"active"},"type":"device"},"subject":{"id":%q,"properties":{"auth":{"method":"certificate"}},"type":"device"}},"policy":"sha256:5bb4dcfe2d64ad1a7a3f4a23c8b2f4f1c06a3bb1c8f0a1de2a1bc4b7a8e2f901","verdict":"allow"}`,
				random.Uint64(), i, last.UTC().Format(audit.TimeFormat), device, device))}
		switch {
		case random.IntN(500) == 0:
			e.Actor = audit.Party{Type: "user", ID: fmt.Sprintf("user%d", random.IntN(8))}
			e.Action = []string{"device.show", "device.list", "device.quarantine"}[random.IntN(3)]
		case random.IntN(200) == 0:
			e.Outcome = audit.Refused
		}
		work <- e
	}
	close(work)
	for range 64 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	return last
}

// BenchmarkDecisions pages through a million decisions by each filter: what an
// operation reports is one page of 101, as the API asks for it.
func BenchmarkDecisions(b *testing.B) {
	places := map[string]store.Config{"SQLite": {Path: filepath.Join(b.TempDir(), "hallmark.db")}}
	if os.Getenv("HALLMARK_POSTGRES") != "" {
		places["PostgreSQL"] = store.Config{URL: cluster(b).Database(b)}
	}
	for name, c := range places {
		db := open(b, c)
		n := million(b)
		last := decided(b, db, n)
		ago := func(share float64) time.Time {
			return last.Add(-time.Duration(share * float64(n) * float64(10*time.Millisecond)))
		}
		for filter, q := range map[string]audit.Query{
			"newest":                   {},
			"before the middle":        {Until: ago(0.5)},
			"hour in the middle":       {Since: ago(0.6), Until: ago(0.5)},
			"denied":                   {Outcome: audit.Refused},
			"denied, long ago":         {Outcome: audit.Refused, Until: ago(0.9)},
			"device":                   {Object: "gw-00007"},
			"device, denied, long ago": {Object: "gw-00007", Outcome: audit.Refused, Until: ago(0.9)},
			"by a person":              {Actor: "user3"},
			"by a person, denied":      {Actor: "user3", Outcome: audit.Refused},
			"by a person, an action":   {Actor: "user3", Action: "device.quarantine"},
			"an action of people":      {Action: "device.quarantine"},
			"by nobody":                {Actor: "nobody"},
			"by a device":              {Actor: "gw-00007"},
			"an action of devices":     {Action: "certificate.renew", Until: ago(0.5)},
			"none of an action":        {Action: "token.create"},
			"none of an action of devices, last hour": {Action: "certificate.issue", Since: ago(0.03)},
			"denied action of devices":                {Action: "certificate.renew", Outcome: audit.Refused},
			"none since then":                         {Since: last.Add(time.Hour)},
		} {
			b.Run(name+"/"+filter, func(b *testing.B) {
				q.Decided, q.Limit = true, 101
				for b.Loop() {
					if _, err := db.Entries(b.Context(), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(name+"/count", func(b *testing.B) {
			for b.Loop() {
				if _, err := db.CountDecisions(context.Background(), "user3", "device.quarantine", ago(1), 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
