package release_test

import (
	"testing"

	"github.com/hallmark-pki/hallmark/policy/release"
)

// TestRecall: rules that decided are brought back as long as a revision keeps them.
func TestRecall(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	first := w.Running.Digest()
	m := &release.Memory{Running: w.Running}
	digests := []string{first}
	for _, device := range []string{"gw-1", "gw-2", "gw-3"} {
		p := w.approved(rules(t, `input.resource.id == "`+device+`"`, "true", "{}"))
		if _, err := w.activate(p.ID, release.Stage{Kind: release.ToShadow}); err != nil {
			t.Fatal(err)
		}
		if found, err := m.Recall(t.Context(), p.Digest); err != nil || found.Digest() != p.Digest {
			t.Fatalf("on trial: %v", err)
		}
		if _, err := w.activate(p.ID, all); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, p.Digest)
	}
	for range 2 { // from the store, and from memory
		for _, digest := range digests {
			if found, err := m.Recall(t.Context(), digest); err != nil || found.Digest() != digest {
				t.Errorf("%s: %v", digest, err)
			}
		}
	}
	_, err := m.Recall(t.Context(), "sha256:another")
	wants(t, err, "rules_gone")
	if w.Running.InForce().Digest() != digests[3] || new(release.Running).InForce() != nil {
		t.Error("other rules are in force")
	}
}
