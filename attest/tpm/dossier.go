package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Dossier is what an operator keeps on file about TPMs: advisories, revoked keys
// and certificates, intermediate authorities and revocation lists. It does not change after LoadDossier.
type Dossier struct {
	advisories    advisories
	revocation    revocation
	intermediates shelf
	crls          map[string][]*revocations // by the issuer's folded name
}

// maxDataFile bounds one file, in bytes.
const maxDataFile = 64 << 20

// LoadDossier reads a folder: advisories.json, revoked.json, intermediates/
// (certificates) and crls/ (revocation lists), PEM or DER, each optional; a folder that is not
// there is an empty Dossier. Anything that cannot be read is an error that names the file, and the
// line where it has lines. Names that begin with a dot are left alone.
func LoadDossier(dir string) (*Dossier, error) {
	d := &Dossier{intermediates: shelf{}, crls: map[string][]*revocations{}}
	for _, part := range []struct {
		name string
		read func([]byte) error
	}{
		{"advisories.json", d.advisories.read},
		{"revoked.json", d.revocation.read},
	} {
		if err := readIn(filepath.Join(dir, part.name), part.read); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := readFolder(filepath.Join(dir, "intermediates"), d.addIntermediates); err != nil {
		return nil, err
	}
	if err := readFolder(filepath.Join(dir, "crls"), d.addCRL); err != nil {
		return nil, err
	}
	return d, nil
}

func readIn(path string, read func([]byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxDataFile+1))
	if err == nil && len(content) > maxDataFile {
		err = fmt.Errorf("more than %d MiB", maxDataFile>>20)
	}
	if err == nil {
		err = read(content)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readFolder(dir string, read func([]byte) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		if err := readIn(filepath.Join(dir, e.Name()), read); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dossier) addIntermediates(file []byte) error {
	ders, err := blocksIn(file, "CERTIFICATE")
	if err != nil {
		return err
	}
	for _, der := range ders {
		c, err := parseCertificate(der)
		if err != nil {
			return err
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return fmt.Errorf("%q is not a certificate authority", c.Subject)
		}
		d.intermediates.put(c)
	}
	return nil
}

// blocksIn returns the DER blocks of one type in a PEM file, or the file itself if it is DER.
func blocksIn(file []byte, kind string) ([][]byte, error) {
	var ders [][]byte
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 && len(file) > 0 && file[0] == 0x30 { // a DER SEQUENCE
		return [][]byte{file}, nil
	}
	if len(ders) == 0 {
		return nil, fmt.Errorf("no %s in it, neither PEM nor DER", kind)
	}
	return ders, nil
}

// eachIn decodes a JSON array of objects one by one, refuses members it does not know, and puts the
// line before an error.
func eachIn[T any](file []byte, take func(T) error) error {
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.DisallowUnknownFields()
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return errors.New("line 1: not a JSON array")
	}
	for decoder.More() {
		start := decoder.InputOffset()
		start += int64(len(file[start:]) - len(bytes.TrimLeft(file[start:], ", \t\r\n")))
		var entry T
		err := decoder.Decode(&entry)
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			start = syntax.Offset
		case errors.As(err, &kind):
			start = max(start, decoder.InputOffset())
		case err == nil:
			err = take(entry)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", 1+bytes.Count(file[:min(start, int64(len(file)))], []byte("\n")), err)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return fmt.Errorf("line %d: %w", 1+bytes.Count(file, []byte("\n")), err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("line %d: something follows the array", 1+bytes.Count(file[:decoder.InputOffset()], []byte("\n")))
	}
	return nil
}

// revokedKey reports whether a key (SHA-256 over its SubjectPublicKeyInfo, lower-case hex) is revoked.
func (d *Dossier) revokedKey(digest string) bool { return d.revocation.keys[digest] }

// check returns errRevoked for a certificate that is on file as revoked, or on
// one of its issuer's lists, or whose key is. c is folded.
func (d *Dossier) check(c *x509.Certificate, lists []*revocations) error {
	serial := c.SerialNumber.Text(16)
	if d.revocation.certificates[string(c.RawIssuer)+"\x00"+serial] {
		return fmt.Errorf("%w: serial %s of %q is in revoked.json", errRevoked, serial, c.Issuer)
	}
	for _, l := range lists {
		if l.serials[serial] {
			return fmt.Errorf("%w: serial %s of %q is on its list of %s", errRevoked, serial, c.Issuer, l.list.ThisUpdate.Format("2006-01-02"))
		}
	}
	if len(d.revocation.keys) > 0 && c.IsCA && d.revokedKey(digestOf(c.RawSubjectPublicKeyInfo)) {
		return fmt.Errorf("%w: the key of %q is in revoked.json", errRevoked, c.Subject)
	}
	return nil
}
