//go:build cgo && pkcs11

package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/ca/keys"
)

// TestPKCS11 makes a key in a SoftHSM token (Debian package softhsm2), opens it
// again and signs with it.
func TestPKCS11(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "softhsm2.conf"), "directories.tokendir = "+dir+"\nobjectstore.backend = file\n", 0o600)
	write(t, filepath.Join(dir, "pin"), "1234", 0o600)
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "hallmark", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	module := "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil {
		t.Fatal(err)
	}
	uri := "pkcs11:module-path=" + module + ";token=hallmark;id=01;object=issuing?pin-source=" + filepath.Join(dir, "pin")
	// First, because a process that has signed in to a token stays signed in.
	_, err := keys.Ring{}.Open(t.Context(), "pkcs11:module-path="+module+";token=hallmark;id=01?pin-value=9999")
	if err == nil || strings.Contains(err.Error(), "9999") {
		t.Errorf("opened with a wrong PIN: %v", err)
	}
	made, err := keys.Ring{}.Create(t.Context(), uri, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := keys.Ring{}.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("tbs"))
	signature, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(made.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Error("another key signed")
	}
	if _, err := (keys.Ring{}).Create(t.Context(), uri, keys.P256); err == nil {
		t.Error("a key was made where one is already")
	}
	_, err = keys.Ring{}.Open(t.Context(), "pkcs11:module-path="+module+";token=hallmark;id=02;object=none?pin-value=1234")
	if err == nil || strings.Contains(err.Error(), "1234") {
		t.Errorf("opened a key that is not there: %v", err)
	}
}
