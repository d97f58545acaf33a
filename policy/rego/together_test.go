package rego

import (
	"context"
	"sync"
	"testing"
)

// TestCompilingTogether compiles the same rules and tests several times at once; the race detector has an opinion on that.
func TestCompilingTogether(t *testing.T) {
	b, err := ReadDir(writeDefault(t))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := b.sources.prepare(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
