package keys_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hallmark-pki/hallmark/ca/keys"
)

// TestCreateAndOpen makes a key of each kind, opens it again, and has OpenSSL read it.
func TestCreateAndOpen(t *testing.T) {
	ring := keys.Ring{Dir: t.TempDir()}
	for _, a := range []keys.Algorithm{keys.P256, keys.P384, keys.Ed25519, keys.RSA3072} {
		uri := "file:keys/" + string(a) + ".key"
		made, err := ring.Create(t.Context(), uri, a)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(ring.Dir, "keys", string(a)+".key")
		at, err := os.Stat(path)
		if err != nil || at.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", a, at.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if block, _ := pem.Decode(text); err != nil || block.Type != "PRIVATE KEY" {
			t.Errorf("%s: not PKCS#8", a)
		}
		opened, err := ring.Open(t.Context(), "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(opened.Public()) {
			t.Errorf("%s: another key came back", a)
		}
		if out, err := exec.Command("openssl", "pkey", "-in", path, "-noout", "-check").CombinedOutput(); err != nil {
			t.Errorf("%s: openssl: %v\n%s", a, err, out)
		}
		if _, err := ring.Create(t.Context(), uri, a); err == nil || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("%s: created twice: %v", a, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(ring.Dir, "keys"))
	if err != nil || len(left) != 4 {
		t.Errorf("%d files left behind, %v", len(left), err)
	}
}

// TestCreateRace has many create the same key: one may.
func TestCreateRace(t *testing.T) {
	ring := keys.Ring{Dir: t.TempDir()}
	var made atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := ring.Create(t.Context(), "file:a.key", keys.P256); err == nil {
				made.Add(1)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

// TestPassword keeps an encrypted key, with its password in a file or in the environment.
func TestPassword(t *testing.T) {
	ring := keys.Ring{Dir: t.TempDir()}
	write(t, filepath.Join(ring.Dir, "password"), "correct horse\n", 0o600)
	write(t, filepath.Join(ring.Dir, "wrong"), "battery\n", 0o600)
	write(t, filepath.Join(ring.Dir, "public"), "correct horse\n", 0o644)
	write(t, filepath.Join(ring.Dir, "empty"), "\n", 0o600)
	t.Setenv("HALLMARK_TEST_PASSWORD", "correct horse")
	made, err := ring.Create(t.Context(), "file:a.key?password-file=password", keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(ring.Dir, "a.key"))
	if err != nil || !strings.Contains(string(text), "ENCRYPTED") {
		t.Error("the key is not encrypted")
	}
	opened, err := ring.Open(t.Context(), "file:a.key?password-env=HALLMARK_TEST_PASSWORD")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if _, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(opened.Public()) {
		t.Errorf("another key came back, or none that signs: %v", err)
	}
	for uri, says := range map[string]string{
		"file:a.key":                         "is encrypted",
		"file:a.key?password-file=wrong":     "does not hold a private key",
		"file:a.key?password-file=public":    "open to others",
		"file:a.key?password-file=empty":     "is empty",
		"file:a.key?password-file=none":      "no such file",
		"file:a.key?password-env=NOT_SET_42": "is not set",
		"file:a.key?password=horse":          "is not a parameter",
	} {
		_, err := ring.Open(t.Context(), uri)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestRefusals is a row for every key that is not opened. No error holds what the file does.
func TestRefusals(t *testing.T) {
	ring := keys.Ring{Dir: t.TempDir()}
	if _, err := ring.Create(t.Context(), "file:good.key", keys.P256); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(ring.Dir, "good.key"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(good), "\n")[1]
	for name, text := range map[string]string{"broken": strings.Replace(string(good), secret[:8], "AAAAAAAA", 1), "empty": "", "words": secret, "huge": strings.Repeat("x", 65<<10)} {
		write(t, filepath.Join(ring.Dir, name), text, 0o600)
	}
	write(t, filepath.Join(ring.Dir, "group"), string(good), 0o640)
	write(t, filepath.Join(ring.Dir, "world"), string(good), 0o604)
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-keyout", "/dev/null", "-out", filepath.Join(ring.Dir, "certificate")).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Join(ring.Dir, "certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for uri, says := range map[string]string{
		"file:broken": "does not hold a private key", "file:empty": "does not hold a private key", "file:words": "does not hold a private key",
		"file:certificate": "does not hold a private key", "file:huge": "larger than", "file:group": "open to others (mode 0640): chmod 600",
		"file:world": "open to others (mode 0604)", "file:none": "no such file", "file:.": "not a regular file",
		"file:": "want file:PATH", "file://host/path": "want file:PATH", "file:a#b": "want file:PATH", "file:%zz": "percent-encoded",
		"good.key": "named by a URI", "": "named by a URI", "awskms:key-id=1": `"awskms" is not supported`, "vault:transit/x?token=hvs.s3cret": `"vault" is not supported`,
	} {
		_, err := ring.Open(t.Context(), uri)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret[8:]) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("opening %q: %v", uri, err)
		}
	}
	for uri, says := range map[string]string{"awskms:x": "not supported", "file:": "want file:PATH", "file:new?password-file=none": "no such file"} {
		if _, err := ring.Create(t.Context(), uri, keys.P256); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("creating %q: %v", uri, err)
		}
	}
	if _, err := ring.Create(t.Context(), "file:new", "P-521"); err == nil || !strings.Contains(err.Error(), "P-521") {
		t.Errorf("created %v", err)
	}
	if _, err := os.Stat(filepath.Join(ring.Dir, "new")); err == nil {
		t.Error("a refused key left a file")
	}
}

// TestForeignKeys opens the forms in which other tools write keys.
func TestForeignKeys(t *testing.T) {
	ring := keys.Ring{Dir: t.TempDir()}
	path := filepath.Join(ring.Dir, "rsa.key")
	if out, err := exec.Command("openssl", "genrsa", "-traditional", "-out", path, "2048").CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	signer, err := ring.Open(t.Context(), "file:rsa.key")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := signer.(*rsa.PrivateKey); !ok {
		t.Errorf("opened %T", signer)
	}
}
