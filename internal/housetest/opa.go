package housetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const opaModule = "github.com/open-policy-agent/opa"

// OPA returns the path of the opa command, of the version that the server is built with. It is
// built once for this machine, in the user's cache: go run and go build would have
// all that it needs in our own go.sum.
func OPA(t testing.TB) string {
	t.Helper()
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", opaModule).Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimSpace(string(version))
	dir := filepath.Join(cache, "hallmark-tests", "opa-"+at)
	path := filepath.Join(dir, "opa")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	making, err := os.MkdirTemp(dir, "making-") // beside its place, so that no other test finds half of it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(making)
	c := exec.Command("go", "install", "-trimpath", opaModule+"@"+at)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+making, "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building opa %s: %v\n%s", at, err, out)
	}
	if err := os.Rename(filepath.Join(making, "opa"), path); err != nil {
		t.Fatal(err)
	}
	return path
}
