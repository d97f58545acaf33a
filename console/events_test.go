package console

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// scribe tells of decisions as the server does.
func (h *house) scribe() *decisionlog.Scribe {
	memory := &release.Memory{Running: h.running}
	return &decisionlog.Scribe{Labels: map[string]string{"app": "hallmark"},
		InForce: func() decisionlog.Rules { return h.running.InForce().(decisionlog.Rules) },
		Recall: func(ctx context.Context, digest string) (decisionlog.Rules, error) {
			rules, err := memory.Recall(ctx, digest)
			asked, _ := rules.(decisionlog.Rules)
			return asked, err
		}}
}

// TestEvents: decisions are shown as the decision log tells of them, masked, and not at all where it does not.
func TestEvents(t *testing.T) {
	h := newHouse(t)
	admin, viewer := h.client(h.admin), h.client(h.viewer)
	check(t, os.WriteFile(filepath.Join(h.dir, "policy", "mask.rego"), []byte(`package system.log

mask contains "/input/subject/id"

drop if input.input.action.name == "token.list"
`), 0o600))
	check(t, h.running.Reload(t.Context()))
	for _, path := range []string{"/api/v1/devices", "/api/v1/tokens", "/api/v1/devices"} {
		h.want(admin, http.StatusOK, "GET", path, "")
	}
	var listed struct {
		Items []decisionlog.Event
		Next  *string
	}
	var ids []string
	for path := "/api/v1/decisions/events?limit=2"; ; path = "/api/v1/decisions/events?limit=2&cursor=" + *listed.Next {
		h.want(admin, http.StatusOK, "GET", path, "").into(t, &listed)
		for _, e := range listed.Items {
			ids = append(ids, e.DecisionID)
			subject := e.Input.(map[string]any)["subject"].(map[string]any)
			if subject["id"] != nil || !slices.Equal(e.Erased, []string{"/input/subject/id"}) || len(e.RuleLabels) == 0 {
				t.Errorf("%+v", e)
			}
		}
		if listed.Next == nil {
			break
		}
	}
	if len(ids) < 2 {
		t.Fatalf("%d events", len(ids))
	}
	var one decisionlog.Event
	h.want(admin, http.StatusOK, "GET", "/api/v1/decisions/"+ids[0]+"/event", "").into(t, &one)
	if one.DecisionID != ids[0] || one.Labels["app"] != "hallmark" {
		t.Errorf("%+v", one)
	}
	refused := func(by *http.Client, status int, path, code string) {
		t.Helper()
		if p := h.want(by, status, "GET", path, "").problem(t); p.Code != code {
			t.Errorf("%s: %s, want %s", path, p.Code, code)
		}
	}
	var whole struct {
		Items []struct{ ID, Action string }
	}
	h.want(admin, http.StatusOK, "GET", "/api/v1/decisions?action=token.list", "").into(t, &whole)
	refused(admin, http.StatusNotFound, "/api/v1/decisions/"+whole.Items[0].ID+"/event", "decision_not_logged")
	refused(admin, http.StatusNotFound, "/api/v1/decisions/06h0ksg5d2uuium4pdeo3mdnjg/event", "decision_unknown")
	refused(viewer, http.StatusBadRequest, "/api/v1/decisions/events?verdict=perhaps", "bad_parameter")
}
