package tpmdevice_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// What goes wrong with TPMs is said so that it can be put right.
func TestTroubles(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	device := open(t, machine)
	key, err := device.CreateKey(tpmdevice.P256)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("absent", func(t *testing.T) {
		for _, address := range []string{filepath.Join(t.TempDir(), "tpmrm0"), "swtpm:127.0.0.1:1", "swtpm:" + filepath.Join(t.TempDir(), "socket")} {
			if _, err := tpmdevice.Open(address); !errors.Is(err, tpmdevice.ErrAbsent) {
				t.Errorf("%s: %v", address, err)
			}
		}
	})
	t.Run("address", func(t *testing.T) {
		for _, address := range []string{"", "tpmrm0", "swtpm:", "swtpm:localhost", "swtpm::1"} {
			if _, err := tpmdevice.At(address); err == nil {
				t.Errorf("%q was taken", address)
			}
		}
	})
	t.Run("not a device", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		os.WriteFile(path, nil, 0o600)
		if _, err := tpmdevice.Open(path); err == nil {
			t.Error("a file was taken for a TPM")
		}
	})
	t.Run("TPM 1.2", func(t *testing.T) {
		old, _ := swtpm.Make(t, swtpm.Options{Old: true})
		if _, err := tpmdevice.Open(old.Address()); !errors.Is(err, tpmdevice.ErrNotTPM2) {
			t.Errorf("a TPM 1.2: %v", err)
		}
	})
	t.Run("foreign key", func(t *testing.T) {
		second, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
		text, _ := key.PEM()
		stolen, err := tpmdevice.ParseKey(open(t, second), text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stolen.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, tpmdevice.ErrForeignKey) {
			t.Errorf("a key of another TPM: %v", err)
		}
		nothingLeft(t, second)
	})
	t.Run("left over", func(t *testing.T) {
		machine.Do(func(c transport.TPM) error {
			for range 3 {
				if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(c); err != nil {
					return err
				}
			}
			return nil
		})
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Errorf("three objects of a killed process are in the way: %v", err)
		}
	})
	t.Run("locked out", func(t *testing.T) {
		lockOut(t, machine)
		if about, err := device.About(); err != nil || !about.LockedOut {
			t.Errorf("%+v, %v", about, err)
		}
		digest := sha256.Sum256(nil)
		signature, err := key.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("keys without a password are not concerned: %v", err)
		}
	})
	for name, hierarchy := range map[string]tpm2.TPMHandle{"owner": tpm2.TPMRHOwner, "endorsement": tpm2.TPMRHEndorsement} {
		t.Run(name+" password", func(t *testing.T) {
			locked, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
			locked.Do(func(c transport.TPM) error {
				_, err := tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
					NewAuth: tpm2.TPM2BAuth{Buffer: []byte("password")}}.Execute(c)
				return err
			})
			var err error
			if name == "owner" {
				_, err = open(t, locked).CreateKey(tpmdevice.P256)
			} else {
				_, err = open(t, locked).EK(tpmdevice.P256)
			}
			if !errors.Is(err, tpmdevice.ErrPassword) {
				t.Errorf("with a password: %v", err)
			}
			if about, err := open(t, locked).About(); err != nil || len(about.Passwords) != 1 || about.Passwords[0] != name {
				t.Errorf("%+v, %v", about, err)
			}
			nothingLeft(t, locked)
		})
	}
}

// lockOut guesses the password of a key until the TPM has had enough.
func lockOut(t *testing.T, machine *swtpm.TPM) {
	t.Helper()
	machine.Do(func(c transport.TPM) error {
		template := tpm2.ECCSRKTemplate
		template.ObjectAttributes.NoDA = false
		made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("secret")}}}}.Execute(c)
		if err != nil {
			return err
		}
		for range 100 {
			_, err := tpm2.Create{ParentHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth([]byte("guess"))},
				InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
			if errors.Is(err, tpm2.TPMRCLockout) {
				_, err := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(c)
				return err
			}
		}
		return errors.New("a hundred guesses, and no lockout")
	})
}
