package rego

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// MaxPacked is the largest packed bundle that is read, in bytes.
const MaxPacked = 8 << 20

// Pack writes the bundle in OPA's format (tar.gz), signed if there is a Seal.
// The same files give the same bytes; with an ECDSA key in memory the signed ones, too.
func (b *Bundle) Pack(seal *Seal) ([]byte, error) {
	manifest, err := b.manifest()
	if err != nil {
		return nil, err
	}
	files := append([]file{{manifestFile, manifest}}, b.sources.all()...)
	if seal != nil {
		signatures, err := seal.sign(files)
		if err != nil {
			return nil, err
		}
		files = append([]file{{signaturesFile, signatures}}, files...)
	}
	var packed bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zipped)
	for _, f := range files {
		// no times, owners or modes: they would tell of this machine and not of the rules
		if err := archive.WriteHeader(&tar.Header{Name: "/" + f.name, Mode: 0o600, Size: int64(len(f.text)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.name, err)
		}
		if _, err := archive.Write(f.text); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.name, err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return packed.Bytes(), nil
}

// manifest is the bundle's own. The roots are what its packages and data begin
// with, so that an agent may load other bundles beside it.
func (b *Bundle) manifest() ([]byte, error) {
	document, err := b.sources.document()
	if err != nil {
		return nil, err
	}
	roots := map[string]bool{}
	for name := range document {
		roots[name] = true
	}
	for _, f := range slices.Concat(b.sources.rules, b.sources.tests) {
		// the whole of a file that does not parse is left to Vet
		module, err := ast.ParseModuleWithOpts(f.name, string(f.text), ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, problemsOf(err)
		}
		if first, ok := module.Package.Path[1].Value.(ast.String); ok {
			roots[string(first)] = true
		}
	}
	sorted := slices.Sorted(maps.Keys(roots))
	version := 1
	return json.Marshal(bundle.Manifest{Revision: b.Revision(), Roots: &sorted, RegoVersion: &version, Metadata: b.metadata})
}

// unpack returns the files of a packed bundle by their names, bounded in number and size.
func unpack(packed []byte) (map[string][]byte, error) {
	if len(packed) > MaxPacked {
		return nil, Problems{{File: ".", Says: fmt.Sprintf("a bundle has at most %d KiB", MaxPacked>>10)}}
	}
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, Problems{{File: ".", Says: "not an OPA bundle (tar.gz): " + err.Error()}}
	}
	// What is unpacked is a little more than the files: headers, padding, signatures.
	bounded := &io.LimitedReader{R: zipped, N: 2*maxBytes + maxFiles*4096}
	room := bounded.N
	archive := tar.NewReader(bounded)
	files := map[string][]byte{}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) && bounded.N > 0 {
			return files, nil
		}
		if err != nil {
			return nil, unpackProblem(bounded, err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(header.Name, "./"), "/")
		switch {
		case header.Typeflag != tar.TypeReg:
			return nil, Problems{{File: shorten(name), Says: "a bundle holds regular files and nothing else"}}
		case name == "" || path.Clean("/"+name) != "/"+name:
			return nil, Problems{{File: ".", Says: fmt.Sprintf("%q is no name for a file of a bundle", shorten(header.Name))}}
		case files[name] != nil:
			return nil, Problems{{File: shorten(name), Says: "is in the bundle twice"}}
		case len(files) == maxEntries:
			return nil, Problems{{File: ".", Says: fmt.Sprintf("more than %d files", maxEntries)}}
		}
		// A file with holes takes room that the archive does not: the bound on what is read does not see them.
		if room -= header.Size; room < 0 {
			return nil, tooMuch()
		}
		if files[name], err = io.ReadAll(archive); err != nil {
			return nil, unpackProblem(bounded, err)
		}
	}
}

func tooMuch() error {
	return Problems{{File: ".", Says: fmt.Sprintf("the bundle's files are larger than %d KiB together", maxBytes>>10)}}
}

func unpackProblem(bounded *io.LimitedReader, err error) error {
	if bounded.N <= 0 {
		return tooMuch()
	}
	return Problems{{File: ".", Says: "not an OPA bundle (tar.gz): " + err.Error()}}
}

// Name names a packed bundle, bytes and all, as "sha256:<hex>": for entity tags. What decisions
// record is the Digest, which does not depend on signatures.
func Name(packed []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(packed)) }
