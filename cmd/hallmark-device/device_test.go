package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts drive the real agent against a real server.
func TestScripts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := "default_profile: device\nprofiles:\n  device: {}\n  short: {lifetime: 1m}\n  held: {retry_after: 1s}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir)
	holdProfile(t, h, "held")
	bin := filepath.Dir(housetest.Binary(t, "hallmark-device"))
	housetest.Binary(t, "hallmark")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("URL", h.URL)
			e.Setenv("CA", h.CAFile())
			e.Setenv("DATA", h.Dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"token": cmdToken, "match": cmdMatch, "mode": cmdMode, "unfinished": cmdUnfinished,
		},
	})
}

// holdProfile makes policy hold first enrolments under a profile.
func holdProfile(t *testing.T, h *housetest.House, profile string) {
	t.Helper()
	path := filepath.Join(h.Dir, "policy", "data.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]map[string]any
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	data["settings"]["hold_profiles"] = []string{profile}
	if text, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(h.Log(), "policy reloaded"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy was not reloaded")
		}
	}
}

// cmdToken puts a token of "hallmark token create FLAGS" into $TOKEN.
func cmdToken(ts *testscript.TestScript, _ bool, args []string) {
	out, err := exec.Command(ts.Getenv("PATH")[:strings.IndexByte(ts.Getenv("PATH"), os.PathListSeparator)]+"/hallmark",
		append([]string{"token", "create", "--data", ts.Getenv("DATA")}, args...)...).Output()
	ts.Check(err)
	ts.Setenv("TOKEN", strings.TrimSpace(string(out)))
}

// cmdMatch checks that key.pem and cert.pem of a directory belong together.
func cmdMatch(ts *testscript.TestScript, neg bool, args []string) {
	c, err := folder(ts.MkAbs(args[0])).load()
	ts.Check(err)
	if !c.key.Public().(*ecdsa.PublicKey).Equal(c.certificate.PublicKey) != neg {
		ts.Fatalf("%s: key and certificate do not belong together", args[0])
	}
}

// cmdMode checks a file's permissions, links followed.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := info.Mode().Perm().String(); got != args[0] {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// cmdUnfinished leaves a directory as a power cut in the middle of save would:
// a new version is written, and the exchange has not happened.
func cmdUnfinished(ts *testscript.TestScript, _ bool, args []string) {
	f := folder(ts.MkAbs(args[0]))
	c, err := f.load()
	ts.Check(err)
	c.key, err = p256.generate()
	ts.Check(err)
	ts.Check(f.writeVersion(filepath.Join(".versions", "ffff"), c))
	ts.Check(os.Symlink(filepath.Join(".versions", "ffff"), f.path(".link")))
}

// The agent runs on small devices: it must not drag the server's parts along.
func TestTheAgentStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, unwanted := range []string{
		"open-policy-agent", "smallstep", "modernc.org", "lib/pq", "database/sql", "prometheus", "zlint",
		"hallmark/store", "hallmark/policy", "hallmark/ca", "hallmark/enroll", "hallmark/audit", "hallmark/fleet", "hallmark/console",
	} {
		for _, path := range strings.Fields(string(out)) {
			if strings.Contains(path, unwanted) {
				t.Errorf("the agent imports %s", path)
			}
		}
	}
}

func credentialFor(t *testing.T, serial int64) *credential {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &credential{key: key, certificate: c, chain: []*x509.Certificate{c}, state: state{Server: "https://ca.example"}}
}

// A reader that looks through the links at any moment sees a matching pair,
// however often they are exchanged.
func TestReadersNeverSeeAMismatch(t *testing.T) {
	f := folder(t.TempDir())
	if err := f.save(credentialFor(t, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for serial := int64(2); serial < 40; serial++ {
			if err := f.save(credentialFor(t, serial)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for seen := 0; ; seen++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if versions, _ := os.ReadDir(f.path(".versions")); len(versions) != 1 || seen == 0 {
				t.Errorf("%d versions are left, %d looks", len(versions), seen)
			}
			return
		default:
		}
		version, err := os.Readlink(f.path(".current"))
		if err != nil {
			t.Fatal(err)
		}
		certificates, err := readCertificates(f.path(version, "cert.pem"))
		key, keyErr := readKey(f.path(version, "key.pem"), nil)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(keyErr, fs.ErrNotExist) {
			continue // exchanged and swept since
		}
		if err != nil || keyErr != nil {
			t.Fatal(err, keyErr)
		}
		if !key.Public().(*ecdsa.PublicKey).Equal(certificates[0].PublicKey) {
			t.Fatal("a key stands beside another key's certificate")
		}
	}
}

func TestRenewAt(t *testing.T) {
	c := credentialFor(t, 1)
	from, until := c.certificate.NotBefore, c.certificate.NotAfter
	for _, fraction := range []float64{0, 0.5, 0.999} {
		share := float64(c.renewAt(fraction).Sub(from)) / float64(until.Sub(from))
		if share < 0.6 || share > 0.667 {
			t.Errorf("fraction %v: after %.3f of its life", fraction, share)
		}
	}
}

func TestBackoff(t *testing.T) {
	c := credentialFor(t, 1)
	for failures := 1; failures < 100; failures++ {
		for _, held := range []*credential{nil, c} {
			if got := backoff(failures, held, errors.New("down")); got < 500*time.Millisecond || got > longestPause {
				t.Errorf("after %d failures: %s", failures, got)
			}
		}
	}
	if got := backoff(1, c, &estclient.Error{Status: 503, RetryAfter: time.Minute}); got < time.Minute {
		t.Errorf("the server asked for a minute: %s", got)
	}
	if got := backoff(50, c, errors.New("down")); got > 15*time.Minute {
		t.Errorf("too slow for what is left: %s", got)
	}
}
