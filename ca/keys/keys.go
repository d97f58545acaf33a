// Package keys opens and creates signing keys by URI, so that the rest of the
// house knows a crypto.Signer and never where its key lives.
//
//	file:keys/issuing.key                            PKCS#8 PEM, mode 0600, relative to Ring.Dir
//	file:/etc/hallmark/root.key?password-file=PATH   the same, encrypted
//	file:root.key?password-env=NAME                  likewise, the password from the environment
//	pkcs11:module-path=PATH;token=T;object=NAME?pin-source=PATH
//
// PKCS#11 needs a build with cgo and the tag pkcs11; the static build says so.
// No error of this package holds key material or a password.
package keys

import (
	"context"
	"crypto"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// Algorithm is the kind of a key to create.
type Algorithm string

// The algorithms.
const (
	P256    Algorithm = "P-256"
	P384    Algorithm = "P-384"
	Ed25519 Algorithm = "Ed25519"
	RSA3072 Algorithm = "RSA-3072"
	RSA4096 Algorithm = "RSA-4096"
)

// Ring resolves key URIs.
type Ring struct {
	Dir string // relative file: paths start here; empty is the working directory
}

// Open returns the signer behind uri. The signer is safe for concurrent use.
func (r Ring) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	switch scheme(uri) {
	case "file":
		f, err := r.file(uri)
		if err != nil {
			return nil, err
		}
		return f.open()
	case "pkcs11":
		return openPKCS11(ctx, uri)
	}
	return nil, unsupported(uri)
}

// Create makes a new key at uri and returns its signer. It never replaces a
// key: one that exists there already is an error.
func (r Ring) Create(ctx context.Context, uri string, a Algorithm) (crypto.Signer, error) {
	switch scheme(uri) {
	case "file":
		f, err := r.file(uri)
		if err != nil {
			return nil, err
		}
		return f.create(a)
	case "pkcs11":
		return createPKCS11(ctx, uri, a)
	}
	return nil, unsupported(uri)
}

// scheme is what stands before the first colon, in lower case.
func scheme(uri string) string {
	before, _, found := strings.Cut(uri, ":")
	if !found {
		return ""
	}
	return strings.ToLower(before)
}

// unsupported names the scheme alone: the rest of a URI may hold a PIN.
func unsupported(uri string) error {
	if s := scheme(uri); s != "" {
		return fmt.Errorf("key URI scheme %q is not supported; use file:PATH or pkcs11:…", s)
	}
	return fmt.Errorf("a key is named by a URI such as file:keys/issuing.key or pkcs11:token=…;object=…")
}

// file is a key in a file.
type file struct {
	path     string
	password secret
}

// file reads a file: URI. The query may say where the password is, nothing else.
func (r Ring) file(uri string) (*file, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("key URI cannot be read as file:PATH")
	}
	path := u.Path
	if u.Opaque != "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return nil, fmt.Errorf("key URI %q: the path is not percent-encoded correctly", "file:"+u.Opaque)
		}
	}
	if path == "" || u.Host != "" || u.Fragment != "" {
		return nil, fmt.Errorf("key URI: want file:PATH, with three slashes or one before an absolute path")
	}
	f := &file{path: path}
	if !filepath.IsAbs(path) {
		f.path = filepath.Join(r.Dir, path)
	}
	for name, values := range u.Query() {
		switch {
		case len(values) == 1 && name == "password-file":
			f.password = secret{file: values[0], dir: r.Dir}
		case len(values) == 1 && name == "password-env":
			f.password = secret{env: values[0]}
		default:
			return nil, fmt.Errorf("key URI: %q is not a parameter; want password-file or password-env, once", name)
		}
	}
	return f, nil
}
