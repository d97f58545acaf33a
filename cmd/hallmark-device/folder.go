package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// folder is the directory that holds what the device has:
//
//	cert.pem chain.pem key.pem state.json   links through .current
//	.current                                a link to one version
//	.versions/SERIAL/                       the four files of one certificate
//	.pending/key.pem                        a key that a certificate was asked for
//	ak.pem                                  the TPM's attestation key, which outlives certificates
//
// Exchanging .current exchanges all four files in one step, so a key never
// stands beside another key's certificate, whenever the power goes.
type folder string

// credential is a certificate with all that belongs to it.
type credential struct {
	key         crypto.Signer
	certificate *x509.Certificate
	chain       []*x509.Certificate
	state       state
}

// state remembers where the certificate came from.
type state struct {
	Server  string    `json:"server"`
	CA      string    `json:"ca"` // PEM of what the server is trusted by
	Profile string    `json:"profile,omitempty"`
	ID      string    `json:"id,omitempty"` // as given at enrolment
	Issued  time.Time `json:"issued"`       // by this device's clock
	TPM     *tpmState `json:"tpm,omitempty"`
}

var linked = []string{"key.pem", "chain.pem", "cert.pem", "state.json"}

// errNothing is the state before the first enrolment.
var errNothing = errors.New("no certificate here yet")

// lock makes the folder if need be and keeps other agents out of it until release.
func (f folder) lock() (release func(), err error) {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return nil, err
	}
	if err := f.checkOurs(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.path(".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another hallmark-device is at work in %s", f)
	}
	return func() { file.Close() }, nil
}

// checkOurs finds files of somebody else that saving would have to replace,
// before a token is spent on a certificate that could not be saved.
func (f folder) checkOurs() error {
	for _, name := range linked {
		was, err := os.Lstat(f.path(name))
		if err == nil && was.Mode()&fs.ModeSymlink == 0 {
			return fmt.Errorf("%s is there already and not from hallmark-device; choose another --out or move it away", f.path(name))
		}
	}
	return nil
}

func (f folder) path(elements ...string) string {
	return filepath.Join(append([]string{string(f)}, elements...)...)
}

// load reads the current credential; errNothing if there is none.
func (f folder) load() (*credential, error) { return f.loadWith(&tpmFlags{}) }

// loadWith is load for a device whose TPM or event log is elsewhere by now.
func (f folder) loadWith(changed *tpmFlags) (*credential, error) {
	if _, err := os.Stat(f.path(".current")); errors.Is(err, fs.ErrNotExist) {
		return nil, errNothing
	}
	c := &credential{}
	text, err := os.ReadFile(f.path(".current", "state.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &c.state); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.path("state.json"), err)
	}
	certificates, err := readCertificates(f.path(".current", "cert.pem"))
	if err != nil {
		return nil, err
	}
	c.certificate = certificates[0]
	if c.chain, err = readCertificates(f.path(".current", "chain.pem")); err != nil {
		return nil, err
	}
	var at *tpmdevice.TPM
	if c.state.TPM != nil {
		if changed.address != "" {
			c.state.TPM.Address = changed.address
		}
		if changed.eventLog != "" {
			c.state.TPM.EventLog = changed.eventLog
		}
		if at, err = tpmdevice.At(c.state.TPM.Address); err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.path("state.json"), err)
		}
	}
	if c.key, err = readKey(f.path(".current", "key.pem"), at); err != nil {
		return nil, err
	}
	return c, nil
}

// attestationKey reads the key that the TPM t attests with; os.ErrNotExist if
// none was ever made here.
func (f folder) attestationKey(t *tpmdevice.TPM) (*tpmdevice.Key, error) {
	text, err := os.ReadFile(f.path("ak.pem"))
	if err != nil {
		return nil, err
	}
	key, err := tpmdevice.ParseKey(t, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path("ak.pem"), err)
	}
	return key, nil
}

func (f folder) saveAttestationKey(k *tpmdevice.Key) error {
	text, err := k.PEM()
	if err != nil {
		return err
	}
	if err := writeSynced(f.path(".ak.new"), text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(f.path(".ak.new"), f.path("ak.pem")); err != nil {
		return err
	}
	return syncDirectory(string(f))
}

// pendingKey returns the key to ask with: the one of an attempt that has not
// ended, so that a request which waits for an operator stays the same request
// across restarts, or a new one, on disk before it is used. It lives in the attestor's TPM, if there is one.
func (f folder) pendingKey(kind keyType, attest *attestor) (crypto.Signer, error) {
	var at *tpmdevice.TPM
	if attest != nil {
		at = attest.tpm
	}
	key, err := readKey(f.path(".pending", "key.pem"), at)
	if err == nil && typeOf(key) == kind && (tpmKey(key) != nil) == (at != nil) && (at == nil || tpmKey(key).Check() == nil) {
		return key, nil
	}
	if at != nil {
		key, err = at.CreateKey(tpmdevice.Algorithm(kind))
	} else {
		key, err = kind.generate()
	}
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.path(".pending"), 0o700); err != nil {
		return nil, err
	}
	temporary := f.path(".pending", "new.pem")
	if err := writeSynced(temporary, text, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, f.path(".pending", "key.pem")); err != nil {
		return nil, err
	}
	return key, syncDirectory(f.path(".pending"))
}

// save makes c the current credential, in one step.
func (f folder) save(c *credential) error {
	version := filepath.Join(".versions", hex.EncodeToString(c.certificate.SerialNumber.Bytes()))
	if err := f.writeVersion(version, c); err != nil {
		return err
	}
	for _, name := range linked {
		if err := f.link(filepath.Join(".current", name), name); err != nil {
			return err
		}
	}
	if err := f.link(version, ".current"); err != nil {
		return err
	}
	if err := syncDirectory(string(f)); err != nil {
		return err
	}
	return f.sweep(filepath.Base(version))
}

func (f folder) writeVersion(version string, c *credential) error {
	if err := os.MkdirAll(f.path(version), 0o755); err != nil {
		return err
	}
	key, err := encodeKey(c.key)
	if err != nil {
		return err
	}
	state, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{"key.pem", key, 0o600},
		{"chain.pem", encodeCertificates(c.chain...), 0o644},
		{"cert.pem", encodeCertificates(c.certificate), 0o644},
		{"state.json", append(state, '\n'), 0o644},
	} {
		if err := writeSynced(f.path(version, file.name), file.text, file.mode); err != nil {
			return err
		}
	}
	if err := syncDirectory(f.path(version)); err != nil {
		return err
	}
	return syncDirectory(f.path(".versions"))
}

// link points name at target, in one step.
func (f folder) link(target, name string) error {
	if now, err := os.Readlink(f.path(name)); err == nil && now == target {
		return nil
	}
	temporary := f.path(".link")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, f.path(name))
}

// sweep removes the pending key and every version but the one to keep.
func (f folder) sweep(keep string) error {
	if err := os.RemoveAll(f.path(".pending")); err != nil {
		return err
	}
	versions, err := os.ReadDir(f.path(".versions"))
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.Name() == keep {
			continue
		}
		if err := os.RemoveAll(f.path(".versions", v.Name())); err != nil {
			return err
		}
	}
	return nil
}

func writeSynced(path string, text []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// rawOf is certificates in DER.
func rawOf(certificates []*x509.Certificate) [][]byte {
	raw := make([][]byte, len(certificates))
	for i, c := range certificates {
		raw[i] = c.Raw
	}
	return raw
}

// readCertificates returns the certificates of a PEM file, at least one.
func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		return nil, errors.New("there is no certificate in PEM")
	}
	return found, nil
}
