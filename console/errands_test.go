package console

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/operators"
)

// set changes one setting of the rules in force.
func (h *house) set(setting string, value any) {
	h.t.Helper()
	name := filepath.Join(h.dir, "policy", "data.json")
	check(h.t, os.Chmod(name, 0o644))
	text, err := os.ReadFile(name)
	check(h.t, err)
	var data struct {
		Settings map[string]any `json:"settings"`
	}
	check(h.t, json.Unmarshal(text, &data))
	data.Settings[setting] = value
	check(h.t, os.WriteFile(name, []byte(jsonOf(data)), 0o644))
	check(h.t, h.running.Reload(h.t.Context()))
}

// request is the newest held request.
func (h *house) request(client *http.Client) enroll.Held {
	h.t.Helper()
	var found struct{ Items []enroll.Held }
	h.want(client, 200, "GET", "/api/v1/requests", "").into(h.t, &found)
	if len(found.Items) == 0 {
		h.t.Fatal("no request is held")
	}
	return found.Items[0]
}

// TestFourEyes: what rules hold is done once another operator agrees, once.
func TestFourEyes(t *testing.T) { onBoth(t, fourEyes) }

func fourEyes(t *testing.T, h *house) {
	h.set("four_eyes", []string{"device.retire", "token.create", "backup.create"})
	ada, bob := h.client(h.admin), h.client(h.certified("bob", operators.Role{Name: "admin"}))
	h.send(ada, "POST", "/api/v1/devices/import", csvType, "id,model\ngw-1,gw-2\ngw-2,gw-2\n")

	const retire, body = "/api/v1/devices/gw-1/retire", `{"reason": "smoke"}`
	r := h.want(ada, http.StatusAccepted, "POST", retire, body)
	if p := r.problem(t); p.Code != "held" || !strings.Contains(p.Detail, "takes two operators") || p.Decision == "" {
		t.Errorf("got %+v", p)
	}
	h.want(ada, http.StatusAccepted, "POST", retire, body)
	held := h.request(bob)
	if held.Errand == nil || held.Errand.Operator+" "+held.Errand.Action+" "+held.Errand.Object != "admin device.retire device gw-1" || held.Attempts != 2 || held.State != enroll.Pending || held.Reasons[0] != "four_eyes" {
		t.Errorf("got %+v", held)
	}

	approve := "/api/v1/requests/" + held.ID + "/approve"
	if p := h.want(ada, http.StatusForbidden, "POST", approve, "").problem(t); p.Code != "self_approval" {
		t.Errorf("got %+v", p)
	} else {
		h.wantRefusal(p.Decision, "admin", "self_approval")
	}
	h.want(bob, http.StatusNoContent, "POST", approve, "")

	// Another device, another reason and another operator are not what was approved.
	h.want(ada, http.StatusAccepted, "POST", "/api/v1/devices/gw-2/retire", body)
	h.want(ada, http.StatusAccepted, "POST", retire, `{"reason": "fire"}`)
	h.want(bob, http.StatusAccepted, "POST", retire, body)

	// What was approved is done once, however many ask at the same moment.
	statuses := make([]int, 4)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() { statuses[i] = h.send(ada, "POST", retire, "application/json", body).StatusCode })
	}
	all.Wait()
	if n := len(slices.DeleteFunc(statuses, func(s int) bool { return s != http.StatusNoContent })); n != 1 {
		t.Errorf("done %d times", n)
	}
	var used enroll.Held
	h.want(bob, 200, "GET", "/api/v1/requests/"+held.ID, "").into(t, &used)
	if used.State != enroll.Used || used.By != "bob" {
		t.Errorf("got %+v", used)
	}
	entries, err := h.Record.Entries(t.Context(), audit.Query{Actor: "admin", Action: "device.retire", Outcome: audit.Granted, Limit: 10})
	check(t, err)
	if len(entries) != 1 || !strings.Contains(string(entries[0].Leaf), `"approval":{"at":`) {
		t.Errorf("%d entries", len(entries))
	}
}

// TestErrandsThatAreDenied: a denial is the answer from then on; things that each call names anew are
// the same errand all the same, and so is a read that is worth four eyes.
func TestErrandsThatAreDenied(t *testing.T) {
	h := newHouse(t)
	h.set("four_eyes", []string{"token.create", "backup.create"})
	ada, bob := h.client(h.admin), h.client(h.certified("bob", operators.Role{Name: "admin"}))
	for range 2 {
		h.want(ada, http.StatusAccepted, "POST", "/api/v1/tokens", `{"device": "gw-1"}`)
	}
	held := h.request(bob)
	if held.Attempts != 2 || held.Errand.Object != "token" {
		t.Errorf("got %+v", held)
	}
	h.want(bob, http.StatusNoContent, "POST", "/api/v1/requests/"+held.ID+"/deny", `{"reason": "not today"}`)
	p := h.want(ada, http.StatusForbidden, "POST", "/api/v1/tokens", `{"device": "gw-1"}`).problem(t)
	if p.Code != "request_denied" || !strings.Contains(p.Detail, "bob") || !strings.Contains(p.Detail, "not today") {
		t.Errorf("got %+v", p)
	}
	h.want(ada, http.StatusAccepted, "POST", "/api/v1/tokens", `{"device": "gw-2"}`)
	h.want(bob, http.StatusNoContent, "POST", "/api/v1/requests/"+h.request(bob).ID+"/approve", "")
	h.want(ada, http.StatusCreated, "POST", "/api/v1/tokens", `{"device": "gw-2"}`)

	h.want(ada, http.StatusAccepted, "POST", "/api/v1/backup", "")
	h.want(bob, http.StatusNoContent, "POST", "/api/v1/requests/"+h.request(bob).ID+"/approve", "")
	h.want(ada, http.StatusOK, "POST", "/api/v1/backup", "")
	h.want(ada, http.StatusAccepted, "POST", "/api/v1/backup", "")
}

// TestRatesCountWhatWasDone: refusals and other people's deeds do not count.
func TestRatesCountWhatWasDone(t *testing.T) { onBoth(t, ratesCountWhatWasDone) }

func ratesCountWhatWasDone(t *testing.T, h *house) {
	h.set("rates", []map[string]any{{"actions": []string{"token.*"}, "per_hour": 2}})
	ada, bob := h.client(h.admin), h.client(h.certified("bob", operators.Role{Name: "admin"}))
	h.want(ada, http.StatusCreated, "POST", "/api/v1/tokens", "")
	h.want(bob, http.StatusCreated, "POST", "/api/v1/tokens", "")
	h.want(ada, http.StatusCreated, "POST", "/api/v1/tokens", "")
	if p := h.want(ada, http.StatusForbidden, "POST", "/api/v1/tokens", "").problem(t); p.Code != "too_often" {
		t.Errorf("got %+v", p)
	}
	h.want(ada, http.StatusOK, "GET", "/api/v1/tokens", "") // another action
	h.want(bob, http.StatusCreated, "POST", "/api/v1/tokens", "")
	h.ahead.Add(int64(61 * 60 * 1e9))
	h.want(ada, http.StatusCreated, "POST", "/api/v1/tokens", "")
}

// TestAgreementIsToWhatWasSent: an approval of a file is none of another file,
// whether it is read before rules are asked or after.
func TestAgreementIsToWhatWasSent(t *testing.T) {
	h := newHouse(t)
	h.set("four_eyes", []string{"device.import", "token.create"})
	ada, bob := h.client(h.admin), h.client(h.certified("bob", operators.Role{Name: "admin"}))
	approve := func() {
		h.want(bob, http.StatusNoContent, "POST", "/api/v1/requests/"+h.request(bob).ID+"/approve", "")
	}
	imported := func(file string, status int) *reply {
		t.Helper()
		r := h.send(ada, "POST", "/api/v1/devices/import", csvType, file)
		if r.StatusCode != status {
			t.Fatalf("importing %q: got %d, want %d", file, r.StatusCode, status)
		}
		return r
	}
	const file, other = "id,model\ngw-1,gw-2\n", "id,model\ngw-666,gw-2\n"
	imported(file, http.StatusAccepted)
	if held := h.request(bob); held.Errand.Content != "sha256:"+hashHex(file) {
		t.Errorf("got %+v", held.Errand)
	}
	approve()
	if p := imported(other, http.StatusForbidden).problem(t); p.Code != "content_changed" {
		t.Errorf("got %+v", p)
	} else {
		h.wantRefusal(p.Decision, "admin", "content_changed")
	}
	h.want(bob, http.StatusNotFound, "GET", "/api/v1/devices/gw-666", "")
	imported(file, http.StatusOK) // the approval still stands for what it was for
	h.want(bob, http.StatusOK, "GET", "/api/v1/devices/gw-1", "")

	h.want(ada, http.StatusAccepted, "POST", "/api/v1/tokens", `{"device": "gw-1", "ttl": "1h"}`)
	approve()
	h.want(ada, http.StatusAccepted, "POST", "/api/v1/tokens", `{"device": "gw-1", "ttl": "2h"}`)
	h.want(ada, http.StatusCreated, "POST", "/api/v1/tokens", `{"device": "gw-1", "ttl": "1h"}`)
}

func hashHex(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
