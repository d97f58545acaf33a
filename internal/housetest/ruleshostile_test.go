package housetest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// tarball is a bundle as no tool of ours would make it.
func tarball(t testing.TB, files map[string]string) string {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	for name, text := range files {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}))
		_, err := archive.Write([]byte(text))
		must(t, err)
	}
	must(t, archive.Close())
	must(t, zipped.Close())
	return packed.String()
}

// forever are conditions that search through more than any time allows.
const forever = `some a in xs
	some b in xs
	some c in xs
	some d in xs
	some e in xs
	some f in xs
	some g in xs
	some h in xs
	((((((a + b) + c) + d) + e) + f) + g) + h > 1000`

// hostile are files that somebody may send along with rules that are good.
func hostile() map[string]map[string]string {
	ten := "package more\n\nxs := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n\n"
	rule := func(body string) map[string]string { return map[string]string{"more.rego": ten + body + "\n"} }
	test := func(body string) map[string]string {
		return map[string]string{"more_test.rego": strings.Replace(ten, "package more", "package more_test", 1) + "test_it if {\n\t" + body + "\n}\n"}
	}
	doubled := "s0 := \"aaaaaaaaaaaaaaaa\"\n"
	for i := range 40 {
		doubled += fmt.Sprintf("s%d := concat(\"\", [s%d, s%d])\n", i+1, i, i)
	}
	return map[string]map[string]string{
		"a test without end":         test(forever),
		"a test that eats memory":    {"more_test.rego": "package more_test\n\n" + doubled + "test_it if count(s40) > 0\n"},
		"a test of wide formats":     test(`sprintf("%999999999d", [1]) != ""`),
		"a test of a huge pattern":   test(`regex.match("((a{1,1000}){1,1000}){1,1000}", "aaaa")`),
		"the network":                rule(`it := http.send({"method": "get", "url": "http://192.0.2.1"})`),
		"the environment":            rule(`it := opa.runtime().env`),
		"comprehensions in another":  rule("it := " + strings.Repeat("[x | x := ", 40) + "1" + strings.Repeat("]", 40)),
		"brackets without end":       rule("it := " + strings.Repeat("[", 100_000)),
		"data without end":           {"more/data.json": strings.Repeat(`{"a":`, 200_000)},
		"data of fifty megabytes":    {"more/data.json": `{"a":"` + strings.Repeat("a", 50<<20) + `"}`},
		"a decision that is a seven": {"more.rego": "package hallmark\n\ndecision := 7\n"},
		"two decisions":              {"more.rego": "package hallmark\n\ndecision := {\"verdict\": \"allow\"}\n"},
		"ten thousand rules":         {"more.rego": "package more\n\n" + strings.Repeat("it if 1 == 1\n", 10_000)},
		"a path out of the bundle":   {"../../more.rego": "package more\n"},
	}
}

// TestHostileRules: whatever is proposed, put into the policy directory or in
// force, the server goes on serving devices, within bounds of time and memory.
func TestHostileRules(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	h.Import("gw-1", "gw-2", "gw-loop", "gw-odd", "gw-torn")
	token := h.Token("--uses", "1000000")
	admin := firstOperator(t, h)
	eve := admin.adds("eve", role{Role: "approver"})
	rules := newDrafts(t, h)
	var enrolled atomic.Int64
	stop := make(chan struct{})
	var devices sync.WaitGroup
	for _, id := range []string{"gw-1", "gw-2"} {
		devices.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if _, err := housetest.Enrol(h.EST(id, token)); err != nil {
					t.Errorf("%s is not served: %v", id, err)
					return
				}
				enrolled.Add(1)
			}
		})
	}
	good := map[string]string{}
	for _, name := range strings.Fields(mustList(t, rules.from)) {
		text, err := os.ReadFile(filepath.Join(rules.from, name))
		must(t, err)
		good[name] = string(text)
	}
	peak := int64(0)
	for name, files := range hostile() {
		whole := map[string]string{}
		for _, more := range []map[string]string{good, files} {
			for file, text := range more {
				whole[file] = text
			}
		}
		before := enrolled.Load()
		must(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.PID()), []byte("5"), 0)) // the peak from here on
		r := admin.sends("POST", changes, "application/gzip", tarball(t, whole))
		if r.status != 400 && r.status != 413 || r.problem.Detail == "" || !bytes.Contains(r.body, []byte(`"problems"`)) && r.status == 400 {
			t.Errorf("%s: %d %.300s", name, r.status, r.body)
		}
		now := peakMemory(t, h)
		peak = max(peak, now)
		t.Logf("%s: %d enrolments meanwhile, %d MiB: %.160s", name, enrolled.Load()-before, now>>20, r.body)
	}
	hostileDirectory(t, h, rules)
	brokenInForce(t, h, rules, admin, eve, token)
	close(stop)
	devices.Wait()
	peak = max(peak, peakMemory(t, h))
	t.Logf("%d enrolments, %d MiB at most", enrolled.Load(), peak>>20)
	if peak > 512<<20 || enrolled.Load() == 0 {
		t.Errorf("%d enrolments, and %d MiB were in memory at most", enrolled.Load(), peak>>20)
	}
}

func mustList(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	names := ""
	for _, e := range entries {
		names += e.Name() + " "
	}
	return names
}

// hostileDirectory puts files into the policy directory of a running server, and has it reload.
func hostileDirectory(t *testing.T, h *housetest.House, rules *drafts) {
	t.Helper()
	var before, after string
	before = h.Hallmark("policy", "show", "-o", "json")
	for name, text := range map[string]string{"more.rego": "package hallmark\n\ndecision := http.send({})\n", "big/data.json": `{"a":"` + strings.Repeat("a", 50<<20) + `"}`} {
		file := filepath.Join(h.Dir, "policy", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
		if out, errs, code := h.Try("policy", "check", filepath.Join(h.Dir, "policy")); code != 1 {
			t.Errorf("%s: hallmark policy check: exit %d\n%.300s%.300s", name, code, out, errs)
		}
		logged := len(h.Log())
		h.Signal(syscall.SIGHUP)
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(h.Log()[logged:], "policy"); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: a reload says nothing", name)
			}
		}
		must(t, os.Remove(file))
	}
	if after = h.Hallmark("policy", "show", "-o", "json"); after != before {
		t.Error("a reload of hostile files has changed the rules")
	}
}

// brokenInForce puts rules in force that pass every check, and give no answer about
// some devices: these are refused, and the others served.
func brokenInForce(t *testing.T, h *housetest.House, rules *drafts, admin, eve *person, token string) {
	t.Helper()
	made := admin.proposes(rules.packed(map[string]string{"more.rego": `package hallmark

xs := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

# METADATA
# title: A search without end
# labels:
#   control: ["TEST:1"]
deny contains {"code": "found", "detail": "found"} if {
	input.resource.id == "gw-loop"
	` + forever + `
}

# METADATA
# title: No reason
# labels:
#   control: ["TEST:1"]
deny contains 7 if input.resource.id == "gw-odd"

torn := 1 if input.resource.id == "gw-torn"

torn := 2 if startswith(input.resource.id, "gw-t")

# METADATA
# title: Two values
# labels:
#   control: ["TEST:1"]
deny contains {"code": "torn", "detail": "torn"} if torn > 5
`}))
	eve.replays(made.ID)
	eve.calls("POST", changes+"/"+made.ID+"/approve", "").wants(200)
	if made = admin.puts(made.ID, ""); made.State != "active" {
		t.Fatalf("it is %+v", made)
	}
	for _, id := range []string{"gw-loop", "gw-odd", "gw-torn"} {
		if _, err := housetest.Enrol(h.EST(id, token)); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s, about which the rules give no answer: %v", id, err)
		}
		if listed := h.Hallmark("decision", "list", "--device", id); !strings.Contains(listed, "policy_error") {
			t.Errorf("%s: the record says\n%s", id, listed)
		}
	}
	admin.calls("POST", "/api/v1/policy/rollback", `{"reason":"broken"}`).wants(200)
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most memory that the server had resident, in bytes.
func peakMemory(t *testing.T, h *housetest.House) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	must(t, err)
	found := peakLine.FindSubmatch(text)
	if found == nil {
		t.Fatalf("the system does not tell: %s", text)
	}
	n, err := strconv.ParseInt(string(found[1]), 10, 64)
	must(t, err)
	return n << 10
}
