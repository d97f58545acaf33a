package keys

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"
)

// maxFile bounds key and password files, in bytes. An RSA-8192 key has 6,500.
const maxFile = 64 << 10

// open reads the key.
func (f *file) open() (crypto.Signer, error) {
	text, err := readPrivate(f.path)
	if err != nil {
		return nil, err
	}
	password, err := f.password.read()
	if err != nil {
		return nil, err
	}
	if password == nil && encrypted(text) { // else pemutil would ask on the terminal
		return nil, fmt.Errorf("key file %s is encrypted: add ?password-file=PATH or ?password-env=NAME to its URI", f.path)
	}
	signer, err := (&softkms.SoftKMS{}).CreateSigner(&apiv1.CreateSignerRequest{SigningKeyPEM: text, Password: password})
	if err != nil {
		// The cause stays out: what a parser says of a private key is nobody's reading.
		return nil, fmt.Errorf("key file %s does not hold a private key in PEM that its password (if any) opens", f.path)
	}
	return signer, nil
}

// encrypted reports whether the PEM text needs a password.
func encrypted(text []byte) bool {
	block, _ := pem.Decode(text)
	return block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "")
}

// create makes the key and writes it before anybody can use it.
func (f *file) create(a Algorithm) (crypto.Signer, error) {
	request, err := a.request()
	if err != nil {
		return nil, err
	}
	password, err := f.password.read()
	if err != nil {
		return nil, err
	}
	made, err := (&softkms.SoftKMS{}).CreateKey(request)
	if err != nil {
		return nil, fmt.Errorf("creating a %s key: %w", a, err)
	}
	options := []pemutil.Options{pemutil.WithPKCS8(true)}
	if password != nil {
		options = append(options, pemutil.WithPassword(password))
	}
	block, err := pemutil.Serialize(made.PrivateKey, options...)
	if err != nil {
		return nil, fmt.Errorf("encoding a %s key: %w", a, err)
	}
	if err := writeNew(f.path, pem.EncodeToMemory(block)); err != nil {
		return nil, err
	}
	return made.CreateSignerRequest.Signer, nil
}

// request translates the algorithm.
func (a Algorithm) request() (*apiv1.CreateKeyRequest, error) {
	switch a {
	case P256:
		return &apiv1.CreateKeyRequest{SignatureAlgorithm: apiv1.ECDSAWithSHA256}, nil
	case P384:
		return &apiv1.CreateKeyRequest{SignatureAlgorithm: apiv1.ECDSAWithSHA384}, nil
	case Ed25519:
		return &apiv1.CreateKeyRequest{SignatureAlgorithm: apiv1.PureEd25519}, nil
	case RSA3072:
		return &apiv1.CreateKeyRequest{SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 3072}, nil
	case RSA4096:
		return &apiv1.CreateKeyRequest{SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 4096}, nil
	}
	return nil, fmt.Errorf("key algorithm %q is not supported; use %s, %s, %s, %s or %s", a, P256, P384, Ed25519, RSA3072, RSA4096)
}

// readPrivate reads a file that only its owner may read. The mode is that of
// the open file, so it cannot be swapped between the look and the read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening key file: %w", err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening key file: %w", err)
	}
	if !at.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if mode := at.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("key file %s is open to others (mode %04o): chmod 600 it, and replace the key if it was ever shared", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("key file %s is larger than %d bytes", path, maxFile)
	}
	return text, nil
}

// writeNew writes a file that did not exist, whole or not at all, with mode
// 0600, and returns when it is durable. The link at the end is what refuses to
// replace a file, however many try at once.
func writeNew(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating key directory: %w", err)
	}
	temp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("creating key file: %w", err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("writing key file: %w", err)
	}
	if err := os.Link(temp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("key file %s exists already and is never overwritten", path)
		}
		return fmt.Errorf("creating key file: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes the entries of a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing key directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing key directory: %w", err)
	}
	return nil
}

// secret says where a password is. The zero secret is none.
type secret struct {
	file, dir string
	env       string
}

// read returns the password without the end of its line, nil for none.
func (s secret) read() ([]byte, error) {
	var password []byte
	switch {
	case s.file != "":
		path := s.file
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.dir, path)
		}
		text, err := readPrivate(path)
		if err != nil {
			return nil, err
		}
		password = bytes.TrimRight(text, "\r\n")
	case s.env != "":
		password = []byte(os.Getenv(s.env))
	default:
		return nil, nil
	}
	if len(password) == 0 {
		return nil, fmt.Errorf("the key's password is empty or its source (%s%s) is not set", s.file, s.env)
	}
	return password, nil
}
