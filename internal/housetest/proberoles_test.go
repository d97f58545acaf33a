package housetest_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// probeRoles are the roles of the default policy in the order of the columns below; admin may do everything.
var probeRoles = []string{"viewer", "line", "fleet", "security", "approver", "auditor", "gateway"}

// mayDo says who may do what under the default policy: a letter for each role, in
// the order of probeRoles. It is written by hand, so that a change of the rules is noticed here.
var mayDo = map[string]string{
	"anchor.add":         "...S...",
	"anchor.list":        "V..SPA.",
	"anchor.remove":      "...S...",
	"attestation.show":   "VLFSPA.",
	"audit.read":         "...S.A.",
	"backup.create":      ".......",
	"baseline.activate":  "...S...",
	"baseline.add":       "...S...",
	"baseline.deny":      "...S...",
	"baseline.deprecate": "...S...",
	"baseline.learn":     "...S...",
	"baseline.list":      "V.FSPA.",
	"baseline.show":      "V.FSPA.",
	"breakglass.open":    ".......", // nobody by a role: the two halves of the key are the right
	"breakglass.seal":    ".......",
	"certificate.list":   "VLFSPA.",
	"certificate.revoke": "..FS...",
	"certificate.show":   "VLFSPA.",
	"decision.list":      "..FSPA.",
	"decision.show":      "..FSPA.",
	"device.import":      ".LF....",
	"device.list":        "VLFSPA.",
	"device.quarantine":  "..FS...",
	"device.release":     "..FS...",
	"device.retire":      "..F....",
	"device.show":        "VLFSPA.",
	"device.unbind":      "...S...",
	"operator.add":       ".......",
	"operator.assign":    ".......",
	"operator.certify":   ".......",
	"operator.list":      "...SPA.",
	"operator.remove":    ".......",
	"operator.renew":     ".......", // everybody their own
	"operator.resume":    ".......",
	"operator.revoke":    "...S...",
	"operator.show":      "...SPA.",
	"operator.suspend":   "...S...",
	"policy.activate":    "...S...",
	"policy.approve":     "....P..",
	"policy.explain":     "...SPA.",
	"policy.fetch":       ".....AG",
	"policy.history":     "...SPA.",
	"policy.list":        "...SPA.",
	"policy.propose":     "...S...",
	"policy.reject":      "....P..",
	"policy.replay":      "...SP..",
	"policy.rollback":    "...S...",
	"policy.show":        "...SPA.",
	"policy.withdraw":    "...S...",
	"request.approve":    "..FSP..",
	"request.deny":       "..FSP..",
	"request.list":       "VLFSPA.",
	"request.show":       "VLFSPA.",
	"session.create":     ".......", // sessions: everybody their own
	"session.end":        "...S...",
	"session.list":       "...S.A.",
	"session.show":       "...S.A.",
	"token.create":       ".LF....",
	"token.list":         "VLFS.A.",
	"token.revoke":       ".LFS...",
}

// may reports whether the table lets a role do that.
func may(role, action string) bool {
	if role == "admin" {
		return true
	}
	column := slices.Index(probeRoles, role)
	return column >= 0 && mayDo[action] != "" && mayDo[action][column] != '.'
}

// checkRoles holds the table against the server's data.json and the actions of
// its API: a change of either has to be thought of in the other.
func checkRoles(t *testing.T, h *housetest.House, actions []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Dir, "policy", "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Settings struct{ Roles map[string][]string }
	}
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	if len(data.Settings.Roles) != len(probeRoles)+1 || !slices.Equal(data.Settings.Roles["admin"], []string{"*"}) {
		t.Errorf("the roles in data.json are %v; the table has admin and %v", data.Settings.Roles, probeRoles)
	}
	for action, row := range mayDo {
		for column, role := range probeRoles {
			granted := slices.ContainsFunc(data.Settings.Roles[role], func(pattern string) bool {
				ok, err := path.Match(pattern, action)
				return ok && err == nil
			})
			letter := strings.ToUpper(role[:1])
			if role == "approver" {
				letter = "P"
			}
			if is := row[column : column+1]; (is == letter) != granted || is != letter && is != "." {
				t.Errorf("%s of %s: data.json says %v, the table %q", action, role, granted, is)
			}
		}
	}
	for _, action := range actions {
		if mayDo[action] == "" {
			t.Errorf("the table has no row for %s", action)
		}
	}
}
